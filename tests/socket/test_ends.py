"""How servers, connections and patience end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_socket

ROOT = Path(__file__).resolve().parent.parent.parent


# Random weights of the demo's shape do not know when to stop: their answers are as long as asked for.
TALKATIVE = ("--random-weights", "1", "--config", str(ROOT / "models/demo/config.json"))


def test_a_drain_lets_answers_finish_and_takes_no_new_ones(serve, connect):
    server = serve(*TALKATIVE)
    server.wait_ready()
    client = connect(server.ws)
    client.ask("a", "Hello", sampling={"max_new_tokens": 1500})
    client.until("token")
    server.process.send_signal(signal.SIGTERM)
    client.until("status", lambda m: m["state"] == "draining")
    client.ask("b", "Hello")
    refusal = client.error("draining")
    assert refusal["request"] == "b" and refusal["retry_after_ms"] > 0
    with open_socket(server.ws) as late:
        messages = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                messages.append(json.loads(late.recv(timeout=10)))
        assert [m["code"] for m in messages] == ["draining"]
        assert closed.value.rcvd.code == 1001
    done = client.done("a")
    assert done["finish_reason"] in ("stop", "length")
    assert client.closed() == 1001
    assert server.process.wait(20) == 0


def test_a_drain_has_an_end(serve, connect):
    server = serve("--drain-seconds", "1", *TALKATIVE)
    server.wait_ready()
    client = connect(server.ws)
    for request in range(8):
        client.ask(f"r{request}", "Hello", sampling={"max_new_tokens": 2000, "temperature": 2.0, "top_p": 1.0, "top_k": 0})
    client.until("token")
    before = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    # Each question has its end, running, waiting or queued.
    for request in range(8):
        assert client.done(f"r{request}")["finish_reason"] in ("cancelled", "stop", "length")
    assert client.closed() == 1001
    assert server.process.wait(20) == 0
    assert time.monotonic() - before < 8


def test_a_drain_waits_for_no_upload(serve, connect):
    """A question about a picture that does not come ends with the rest, long before the time for a drain is over."""
    server = serve("--drain-seconds", "120", *TALKATIVE)
    server.wait_ready()
    client = connect(server.ws)
    client.send(type="upload", upload=1, bytes=1000)
    client.ask("a", "What is it?", upload=1)
    client.until("queued")
    client.ask("b", "Hello", sampling={"max_new_tokens": 500})
    client.until("token")
    before = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert client.done("b")["finish_reason"] in ("stop", "length")
    assert client.done("a")["finish_reason"] == "cancelled"
    assert client.closed() == 1001
    assert server.process.wait(60) == 0
    assert time.monotonic() - before < 60


def test_ctrl_c_ends_an_idle_server_at_once(serve):
    server = serve()
    server.wait_ready()
    before = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - before < 4


def test_a_port_in_use_is_said(binary, server, tmp_path):
    result = subprocess.run(
        [binary, "serve", "--listen", f"127.0.0.1:{server.port}"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode != 0
    assert "--listen" in result.stderr


def test_it_listens_before_it_is_ready(binary, tmp_path):
    process = subprocess.Popen(
        [binary, "serve", "--listen", "127.0.0.1:0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.split()[-1].replace("http", "ws") + "/ws"
        with open_socket(url) as socket:
            state = json.loads(socket.recv(timeout=10))["state"]
            while state != "ready":
                assert state in ("loading", "warming")
                message = json.loads(socket.recv(timeout=60))
                state = message["state"] if message["type"] == "status" else state
    finally:
        process.terminate()
        process.wait(30)


def test_idle_connections_and_forgotten_sessions_end(serve, connect):
    server = serve("--idle-seconds", "2", "--resume-seconds", "2", "--upload-idle-seconds", "1")
    server.wait_ready()
    client = connect(server.ws)
    # Pongs are answered by the library: the connection is not idle.
    time.sleep(4)
    client.send(type="ping")
    client.until("pong")
    client.send(type="upload", upload=1, bytes=10)
    client.piece(1, b"12345")
    assert client.error("upload_timeout", timeout=5)["upload"] == 1
    client.cut()
    time.sleep(4)
    client.connect(wait=False)
    client.send(type="hello", resume={"session": client.session, "last_event": 0})
    assert client.until("welcome", lambda m: "resumed" in m)["reason"] == "expired"


def test_a_silent_connection_is_closed(serve, raw):
    server = serve("--idle-seconds", "2")
    server.wait_ready()
    socket = raw(server.port)
    before = time.monotonic()
    # It answers no ping.
    assert socket.close_code() == 4002
    assert 1 < time.monotonic() - before < 5


def fill(slow) -> int:
    """Sends large pings, of which nothing is read, until both ways are full; how many went whole."""
    ping = slow.frame(0x81, json.dumps({"type": "ping", "t": "x" * 60_000}).encode())
    slow.sock.settimeout(1)
    pings = 0
    try:
        while pings * len(ping) < 100_000_000:
            slow.sock.sendall(ping)
            pings += 1
    except TimeoutError:
        return pings
    pytest.fail("the server reads on and on from a client that does not read")


def test_a_client_that_does_not_read(serve, raw, connect):
    """Its memory is bounded, its connection closes with 4008, its session lives, and nobody else waits."""
    server = serve("--stall-seconds", "2", "--outbox-bytes", "64KiB", "--replay-bytes", "1MiB")
    server.wait_ready()
    slow = raw(server.port)
    session = json.loads(slow.until(1))["session"]
    before = memory(server)
    fill(slow)
    assert memory(server) - before < 20_000
    other = connect(server.ws)
    other.ask("a", "Hello")
    other.done("a", timeout=20)
    time.sleep(3)
    slow.sock.settimeout(20)
    with pytest.raises((EOFError, ConnectionError, AssertionError)) as ended:
        payload = slow.until(8)
        raise AssertionError(int.from_bytes(payload[:2], "big"))
    assert ended.type is not AssertionError or ended.value.args[0] == 4008
    other.connect(wait=False)
    other.send(type="hello", resume={"session": session, "last_event": 0})
    assert other.until("welcome", lambda m: "resumed" in m)["resumed"] is True


def test_a_client_that_catches_up_was_not_idle(serve, raw):
    """What it sent while too much was unsent could not be read: it is not closed for its silence."""
    server = serve("--idle-seconds", "2", "--stall-seconds", "60", "--outbox-bytes", "64KiB", "--replay-bytes", "1MiB")
    server.wait_ready()
    slow = raw(server.port)
    pings = fill(slow)
    time.sleep(4)
    slow.sock.settimeout(20)
    pongs = 0
    while pongs < pings:
        opcode, payload = slow.recv()
        assert opcode != 8, f"closed with {int.from_bytes(payload[:2], 'big')} after {pongs} of {pings} pongs"
        pongs += opcode == 1 and b'"pong"' in payload[:200]


def memory(server) -> int:
    """Resident, in KiB."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_a_kill_loses_nothing_that_the_client_kept(serve, connect, scene):
    """kill -9 and a new server: the conversation is restored through `history` and asked again."""
    server = serve()
    server.wait_ready()
    client = connect(server.ws)
    image = client.image(1, scene())
    client.ask("a", "How many circles are there?", image=image)
    client.done("a")
    said = [{"question": "How many circles are there?", "answer": client.answer("a")}]
    client.ask("b", "What colour are they?", image=image, history=said, sampling={"max_new_tokens": 500})
    client.until("started")
    server.process.kill()
    server.process.wait()
    client.closed()
    server = serve()
    server.wait_ready()
    back = connect(server.ws, wait=False)
    back.send(type="hello", resume={"session": client.session, "last_event": client.last_event})
    assert back.until("welcome", lambda m: "resumed" in m)["reason"] == "unknown"
    image = back.image(1, scene())
    back.ask("b", "What colour are they?", image=image, history=said)
    back.done("b")
    assert back.answer("b")


def test_a_full_disk_stops_nothing(binary, connect, scene):
    """Nothing is written but the log; where that can't be, the server serves on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open("/dev/full", "w") as full:
        command = [binary, "--log", "trace", "serve", "--listen", f"127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=full, stderr=full)
    try:
        client, end = None, time.monotonic() + 60
        while client is None:
            try:
                client = connect(f"ws://127.0.0.1:{port}/ws")
            except OSError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.1)
        client.until("status", lambda m: m["state"] == "ready")
        client.upload(1, b"no picture")
        client.error("image_unsupported")
        client.ask("a", "How many circles are there?", image=client.image(2, scene()))
        client.done("a")
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_model_folder_that_changes_underneath(serve, connect, scene, tmp_path):
    """Once it is loaded the folder is not read any more: cut short, overwritten or gone, answers stay the same."""
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "models/demo", folder, ignore=shutil.ignore_patterns("train"))
    server = serve("--model", str(folder))
    server.wait_ready()
    client = connect(server.ws)
    image = client.image(1, scene())
    client.ask("a", "How many circles are there?", image=image)
    client.done("a")
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert str(folder) not in maps, "the weights are still mapped: a file cut short would end the process"
    for number, file in enumerate(sorted(folder.iterdir())):
        if number % 3 == 0:
            file.unlink()
        elif number % 3 == 1:
            os.truncate(file, 0)
        else:
            file.write_bytes(os.urandom(1000))
    fresh = connect(server.ws)
    fresh.ask("a", "How many circles are there?", image=fresh.image(1, scene()))
    fresh.done("a")
    assert fresh.answer("a") == client.answer("a")
