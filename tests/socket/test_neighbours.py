"""What one client does at the edge of a bound, and what its neighbour sees of it."""

import io
import struct

import pytest
from decoding import MIB, children, decodes, either, hog, slow_jpeg
from PIL import Image
from watching import metrics, wait_for


@pytest.fixture
def two_keys(serve, tmp_path):
    """`two_keys(*flags)` starts a server with two decoders and two keys; its clients come with a letter for the key."""

    def start(*flags: str):
        keys = tmp_path / "keys"
        keys.write_text("a-key-0123456789abc\nb-key-0123456789abc\n")
        server = serve("--decoders", "2", "--api-key-file", str(keys), *flags)
        server.wait_ready()
        return server

    return start


def key(letter: str) -> dict:
    return {"hello": {"token": f"{letter}-key-0123456789abc"}}


def test_one_client_never_has_all_memory_for_decoding(two_keys, connect, photo):
    """Its pictures ask for as much as they may: another's is decoded beside them."""
    server = two_keys("--decode-memory", "512MiB")
    greedy, modest = connect(server.ws, **key("a")), connect(server.ws, **key("b"))
    # 12 bytes a pixel, of the three quarters that one client may have.
    file = hog(5200)
    for number in range(1, 5):
        greedy.upload(number, file + bytes([number]))
        greedy.until("upload_received", lambda m, n=number: m["upload"] == n)
    modest.image(1, photo(1))
    for number in range(2, 5):
        modest.image(number, photo(number))


def test_a_picture_forgotten_while_it_waits_leaves_a_decoder_that_works(two_keys, connect, photo):
    server = two_keys("--decode-memory", "512MiB")
    first, second, other = (connect(server.ws, **key(letter)) for letter in "aab")
    file = hog(5200)
    for round in range(3):
        first.upload(round + 1, file + bytes([round, 1]))
        other.upload(100 + round, file + bytes([round, 2]))
        received = other.until("upload_received", lambda m, n=100 + round: m["upload"] == n)
        other.send(type="forget", image=received["image"])
        other.until("forgotten", lambda m, i=received["image"]: m.get("image") == i)
        second.upload(round + 1, photo(10 + round))
        end = either(second, "image_ready", "error")
        assert end["type"] == "image_ready", end
        wait_for(lambda: len(children(server.process.pid)) == 2)


@pytest.mark.parametrize("format", ["WEBP", "BMP"])
def test_a_large_file_that_is_put_in_order_first_is_read(serve, connect, format):
    server = serve("--decoders", "2")
    server.wait_ready()
    noise = Image.effect_noise((3400, 3400), 90).convert("RGB")
    if format == "WEBP":
        red, green, blue = noise.split()
        noise = Image.merge("RGB", (red, green.rotate(90), blue.rotate(180)))
    out = io.BytesIO()
    noise.save(out, format, **({"lossless": True, "quality": 0, "method": 0} if format == "WEBP" else {}))
    file = out.getvalue()
    if format == "BMP":
        # OS/2's header of 64 bytes instead of Windows' of 40.
        file = file[:10] + struct.pack("<II", 14 + 64, 64) + file[18:54] + bytes(24) + file[54:]
    assert len(file) > 25 * MIB
    client = connect(server.ws)
    client.upload(1, file)
    end = either(client, "image_ready", "error")
    assert end["type"] == "image_ready" and (end["width"], end["height"]) == (3400, 3400), end


def test_whoever_comes_back_to_a_full_server_ends_nobodys_session(serve, connect):
    """A resume needs no more room than there was."""
    server = serve("--max-connections", "4")
    server.wait_ready()
    clients = []
    for _ in range(8):
        client = connect(server.ws)
        client.ask("a", "Hello")
        client.done("a")
        client.cut()
        clients.append(client)
    for client in clients:
        assert client.resume()["resumed"], client.session
        client.ask("b", "And?")
        client.done("b")
        client.cut()


def test_messages_in_crumbs_count_for_what_they_take(serve, connect, raw):
    """Fragments of one byte take many times their bytes where they are collected."""
    server = serve("--message-memory", "8MiB")
    server.wait_ready()
    other = connect(server.ws)
    crumbs = raw(server.port)
    crumbs.send(crumbs.frame(0x02, b"x"))
    # 300,000 bytes of two million that a message may have; but some eighty are taken for each.
    for _ in range(300):
        try:
            crumbs.send(crumbs.frame(0x00, b"x") * 1000)
        except OSError:
            break
    assert crumbs.close_code() == 4429
    other.ask("a", "Hello")
    other.done("a")


def test_upload_memory_that_comes_back_late_is_nobody_elses_loss(two_keys, connect, photo):
    """The greediest gives way while its picture is being decoded, which takes a moment to end."""
    slow = slow_jpeg(3600)
    size = len(slow) + 200_000
    server = two_keys("--upload-bytes", str(size), "--upload-memory", str(size))
    greedy, modest = connect(server.ws, **key("a")), connect(server.ws, **key("b"))
    noise = Image.effect_noise((900, 900), 90)
    name = "a-key-0123456789abc"

    def ended():
        return sum(count for sample, count in metrics(server, name).items() if sample.startswith("glimpse_uploads_total"))

    for number in range(1, 5):
        before = ended()
        greedy.upload(number, slow + bytes([number]))
        # Or it was over before anybody looked.
        wait_for(lambda: decodes(server, name)["running"] or ended() > before)
        out = io.BytesIO()
        noise.save(out, "BMP")
        modest.image(number, out.getvalue() + bytes([number]))
        either(greedy, "error", "image_ready")
