"""The tools at `/mcp` and of `glimpse mcp`, by the Model Context Protocol's own Python client."""

import asyncio
import base64
import functools
import http.client
import io
import json
import os
import subprocess
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from asking import picture
from watching import TALKATIVE, metrics, wait_for

QUESTION = "How many circles are there?"
KEY = "a-good-key-of-24-letters"
# With and without a handshake.
ERAS = ("legacy", "2026-07-28")


def awaited(test):
    """Runs a test that awaits."""

    @functools.wraps(test)
    def run(*arguments, **named):
        asyncio.run(test(*arguments, **named))

    return run


def data_url(file: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(file).decode()


@asynccontextmanager
async def connected(server, key: str | None = None, mode: str = "auto"):
    """A client of a server's tools over HTTP."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(headers=headers, timeout=120) as network:
        async with Client(streamable_http_client(f"{server.url}/mcp", http_client=network), mode=mode) as client:
            yield client


@asynccontextmanager
async def started(binary, *flags: str, mode: str = "auto"):
    """A client of a process of its own."""
    server = StdioServerParameters(command=str(binary), args=["mcp", *flags])
    async with Client(server, mode=mode) as client:
        yield client


async def ask(client, file: str, question: str = QUESTION, **more):
    return await client.call_tool("ask_picture", {"picture": file, "question": question, **more})


def answer(result) -> dict:
    assert not result.is_error, result.content
    assert result.content[0].text == result.structured_content["answer"]
    return result.structured_content


def refusal(result) -> str:
    """The code of a call that was refused; its sentence is what the model reads."""
    assert result.is_error and result.structured_content is None
    error = result.meta["glimpse/error"]
    assert result.content[0].text == f"{error['code']}: {error['message']}"
    return error["code"]


def post(server, headers: dict | None = None, method: str = "tools/list", verb: str = "POST", **params):
    """Status, headers and body of the answer to a request by hand."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    usual = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection.request(verb, "/mcp", body, usual | (headers or {}))
    reply = connection.getresponse()
    return reply.status, reply.headers, reply.read()


@pytest.mark.parametrize("mode", ERAS)
@awaited
async def test_the_tools_say_what_they_take_and_give(server, mode):
    async with connected(server, mode=mode) as client:
        assert client.server_info is None or client.server_info.name == "glimpse"
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == ["ask_picture", "read_text", "describe"]
    assert set(tools["ask_picture"].input_schema["properties"]) == {"picture", "region", "question", "system", "max_tokens"}
    assert tools["ask_picture"].input_schema["required"] == ["picture", "question"]
    for tool in tools.values():
        assert tool.description and tool.annotations.read_only_hint
        assert {"answer", "picture", "width", "finish_reason", "usage"} <= set(tool.output_schema["properties"])


@pytest.mark.parametrize("mode", ERAS)
@awaited
async def test_a_picture_and_then_its_handle(server, mode):
    async with connected(server, mode=mode) as client:
        first = answer(await ask(client, data_url(picture(3)), mode))
        assert (first["width"], first["height"]) == (640, 480)
        assert first["finish_reason"] == "stop" and first["usage"]["image_tokens"] > 0
        assert first["timings"]["total_ms"] > 0
        again = answer(await ask(client, first["picture"]))
        assert "3" in again["answer"] and again["picture"] == first["picture"]
        # The model has looked at it already.
        assert again["usage"]["cached_tokens"] >= again["usage"]["image_tokens"]
        for unknown in ("picture_" + "0" * 24, "picture_" + "f" * 24):
            assert refusal(await ask(client, unknown)) == "image_gone"


def two_halves() -> bytes:
    """Three circles to the left and one to the right, in a picture turned by a quarter as phones store them."""
    image = Image.new("RGB", (1280, 480), "white")
    for left, count in ((0, 3), (640, 1)):
        image.paste(Image.open(io.BytesIO(picture(count))), (left, 0))
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


@awaited
async def test_a_region_is_all_that_is_seen(server):
    async with connected(server) as client:
        left = {"x": 0, "y": 0, "width": 640, "height": 480}
        first = answer(await ask(client, data_url(two_halves()), region=left))
        assert "3" in first["answer"]
        assert (first["width"], first["height"]) == (1280, 480)
        right = await ask(client, first["picture"], region=left | {"x": 640, "width": 5000})
        assert "1" in answer(right)["answer"]
        assert answer(right)["picture"] == first["picture"]
        # What it has seen of one part is not the other.
        assert "3" in answer(await ask(client, first["picture"], region=left))["answer"]
        told = await client.call_tool("describe", {"picture": first["picture"], "region": left})
        assert answer(told)["usage"]["cached_tokens"] >= answer(told)["usage"]["image_tokens"]
        outside = await ask(client, first["picture"], region=left | {"x": 1280})
        assert refusal(outside) == "bad_message" and "1280 × 480" in outside.content[0].text
        for wrong in ({"x": -1}, {"width": 0}, {"height": None}, {"depth": 1}):
            assert refusal(await ask(client, first["picture"], region=left | wrong)) == "bad_message", wrong


@awaited
async def test_every_tool_answers(server):
    file = data_url(picture(2))
    async with connected(server) as client:
        for name, more in (("read_text", {}), ("describe", {}), ("describe", {"language": "中文"})):
            told = answer(await client.call_tool(name, {"picture": file, **more}))
            assert told["usage"]["completion_tokens"] > 0
        other = data_url(picture(2, "green"))
        short = answer(await ask(client, other, "Describe the picture.", max_tokens=2, system="Be brief."))
        assert short["finish_reason"] == "length" and short["usage"]["completion_tokens"] == 2


@awaited
async def test_what_is_wrong_is_told_to_whoever_can_mend_it(server):
    async with connected(server) as client:
        for file, code in (
            (data_url(b"no picture"), "image_unsupported"),
            (data_url(picture(3)[:2000]), "image_broken"),
            ("data:image/jpeg;base64,####", "bad_message"),
            ("data:,hello", "bad_message"),
            ("http://example.org/cat.jpg", "image_unsupported"),
            ("cat.jpg", "image_unsupported"),
            ("/etc/passwd", "image_unsupported"),
        ):
            assert refusal(await ask(client, file)) == code, file
        assert refusal(await ask(client, data_url(picture(3)), " ")) == "empty_text"
        assert refusal(await ask(client, data_url(picture(3)), max_tokens=0)) == "bad_sampling"
        assert refusal(await ask(client, data_url(picture(3)), region="left")) == "bad_message"
        assert refusal(await client.call_tool("describe", {})) == "bad_message"
        with pytest.raises(MCPError):
            await client.call_tool("draw", {})
        # After all that it answers.
        assert "3" in answer(await ask(client, data_url(picture(3))))["answer"]


@pytest.mark.parametrize("mode", ERAS)
@awaited
async def test_words_come_as_progress(server, mode):
    words, counts = [], []

    async def told(progress: float, total: float | None, message: str | None):
        words.append(message)
        counts.append(progress)

    async with connected(server, mode=mode) as client:
        arguments = {"picture": data_url(picture(4)), "question": "Describe the picture."}
        result = await client.call_tool("ask_picture", arguments, progress_callback=told)
    assert "".join(words) == answer(result)["answer"]
    assert len(words) > 1 and counts == list(range(1, len(words) + 1))


async def abandon(client, running):
    """Asks for an answer without end, and goes when its first word is there."""
    begun = asyncio.Event()

    async def told(*_):
        begun.set()

    arguments = {"picture": data_url(picture(1)), "question": "Go on for ever.", "max_tokens": 90_000}
    call = asyncio.create_task(client.call_tool("ask_picture", arguments, progress_callback=told))
    await asyncio.wait_for(begun.wait(), 120)
    assert await running()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_a_call_that_is_given_up_frees_its_slot(serve):
    server = serve(*TALKATIVE, "--max-new-tokens", "100000")
    server.wait_ready()

    async def running() -> bool:
        return metrics(server)["glimpse_requests_running"] == 1

    async def give_up(mode: str):
        async with connected(server, mode=mode) as client:
            await abandon(client, running)

    for mode in ERAS:
        before = metrics(server)['glimpse_requests_total{outcome="cancelled"}']
        asyncio.run(give_up(mode))
        wait_for(lambda: metrics(server)["glimpse_requests_running"] == 0)
        wait_for(lambda: metrics(server)['glimpse_requests_total{outcome="cancelled"}'] == before + 1)
    # One that nobody hears of until it is over: the connection closes.
    body = {"name": "ask_picture", "arguments": {"picture": data_url(picture(1)), "question": "?", "max_tokens": 90_000}}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": body})
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection.request("POST", "/mcp", call, headers)
    wait_for(lambda: metrics(server)["glimpse_requests_running"] == 1)
    connection.close()
    wait_for(lambda: metrics(server)["glimpse_requests_running"] == 0)


def test_who_may_in(serve, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{KEY}\nanother-key-of-24-letters asks=1\n")
    server = serve("--api-key-file", str(keys))
    server.wait_ready()
    status, headers, body = post(server)
    assert (status, json.loads(body)["error"]["code"]) == (401, "unauthorized")
    assert headers["WWW-Authenticate"].startswith("Bearer")
    status, _, body = post(server, {"Host": "elsewhere.example"})
    assert (status, json.loads(body)["error"]["code"]) == (403, "forbidden")
    status, _, body = post(server, {"Origin": "https://elsewhere.example"})
    assert (status, json.loads(body)["error"]["code"]) == (403, "forbidden")
    right = {"Authorization": f"Bearer {KEY}"}
    status, _, body = post(server, right | {"Host": "elsewhere.example"})
    assert status == 200 and len(json.loads(body)["result"]["tools"]) == 3
    for verb in ("GET", "DELETE"):
        assert post(server, right, verb=verb)[0] == 405

    async def ask_with_keys():
        async with connected(server, KEY) as one:
            handle = answer(await ask(one, data_url(picture(3))))["picture"]
            assert "3" in answer(await ask(one, handle))["answer"]
        async with connected(server, "another-key-of-24-letters") as other:
            # What one key has sent, no other can name.
            assert refusal(await ask(other, handle)) == "image_gone"
            answer(await ask(other, data_url(picture(3))))
            assert refusal(await ask(other, data_url(picture(3)))) == "rate_limited"

    asyncio.run(ask_with_keys())


def test_a_body_is_held_to_the_limits_of_files(serve):
    """By what its head says, before any of it is sent."""
    server = serve("--upload-bytes", "64KiB")
    server.wait_ready()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.putrequest("POST", "/mcp")
    connection.putheader("Content-Length", str(8 << 20))
    connection.endheaders()
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["error"]["code"]) == (413, "upload_too_large")


@pytest.fixture
def root(tmp_path):
    """A folder with a picture, and beside it one that is nobody's business."""
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "three.jpg").write_bytes(picture(3))
    (tmp_path / "secret.jpg").write_bytes(picture(5))
    (folder / "out.jpg").symlink_to("../secret.jpg")
    (folder / "up").symlink_to("..")
    (folder / "in.jpg").symlink_to("sub/three.jpg")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("mode", ERAS)
@awaited
async def test_a_process_of_the_agents_own(binary, root, mode):
    """The first question comes before the model is loaded."""
    async with started(binary, "--root", str(root), mode=mode) as client:
        first = answer(await ask(client, "sub/three.jpg"))
        assert "3" in first["answer"]
        for same in ("in.jpg", str(root / "sub" / "three.jpg"), "./sub/../in.jpg", first["picture"]):
            assert answer(await ask(client, same))["picture"] == first["picture"], same
        outside = ("../secret.jpg", str(root.parent / "secret.jpg"), "out.jpg", "up/secret.jpg", "zero", "/dev/zero", "none.jpg")
        for path in outside:
            assert refusal(await ask(client, path)) == "unknown_image", path
        for path in ("pipe", "sub"):
            assert refusal(await ask(client, path)) == "image_unsupported", path
        words = []

        async def told(progress, total, message):
            words.append(message)

        arguments = {"picture": "in.jpg"}
        described = await client.call_tool("describe", arguments, progress_callback=told)
        assert "".join(words) == answer(described)["answer"]


@awaited
async def test_a_process_can_be_told_to_stop(binary):
    """With one slot, the next question is answered only if the one before has left it."""
    flags = (*TALKATIVE, "--max-batch", "1", "--max-new-tokens", "100000")
    async with started(binary, *flags) as client:

        async def running() -> bool:
            return True

        await abandon(client, running)
        after = await asyncio.wait_for(ask(client, data_url(picture(2)), max_tokens=2), 120)
        assert answer(after)["usage"]["completion_tokens"] == 2


def test_a_process_ends_with_its_client(binary):
    process = subprocess.run([binary, "mcp"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    assert process.stdout == b"" and process.returncode != 0
    assert b"glimpse: " in process.stderr
    process = subprocess.run([binary, "mcp", "--root", "/nowhere"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    assert process.returncode == 1 and b"--root /nowhere can't be opened" in process.stderr


def test_an_address_is_fetched_where_its_host_is_named(serve, shelf):
    server = serve("--fetch-images", "127.0.0.1")
    server.wait_ready()

    async def look():
        async with connected(server) as client:
            first = answer(await ask(client, f"http://127.0.0.1:{shelf}/picture.jpg"))
            assert "3" in first["answer"]
            assert "3" in answer(await ask(client, first["picture"]))["answer"]
            for url in (f"http://localhost:{shelf}/picture.jpg", f"http://127.0.0.1:{shelf}/to/http://169.254.169.254/", f"http://127.0.0.1:{shelf}/none"):
                assert refusal(await ask(client, url)) == "image_unsupported", url

    asyncio.run(look())


def test_a_server_reads_its_root_alone(serve, root):
    server = serve("--root", str(root))
    server.wait_ready()

    async def look():
        async with connected(server) as client:
            assert "3" in answer(await ask(client, "sub/three.jpg"))["answer"]
            assert refusal(await ask(client, "out.jpg")) == "unknown_image"

    asyncio.run(look())
