"""How servers, connections and patience end."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ports import free_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_socket

from watching import PATIENCE, TALKATIVE, metrics, resident, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
# Ids that end an answer.
ENDS = json.loads((ROOT / "models/demo/config.json").read_text())["eos_token_id"]


def test_a_drain_lets_answers_finish_and_takes_no_new_ones(serve, connect):
    server = serve("--drain-seconds", "300", *TALKATIVE)
    server.wait_ready()
    client = connect(server.ws)
    # The short one's turn comes after the long ones: it can't be over before all of this was said.
    for number in range(6):
        client.ask(f"long{number}", "Hello", sampling={"max_new_tokens": 1500})
    client.ask("a", "Hello", sampling={"max_new_tokens": 60})
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
                messages.append(json.loads(late.recv(timeout=PATIENCE)))
        assert [m["code"] for m in messages] == ["draining"]
        assert closed.value.rcvd.code == 1001
    assert "started" not in [m["type"] for m in client.of("a")]
    for number in range(6):
        client.send(type="cancel", request=f"long{number}")
    assert client.done("a")["finish_reason"] in ("stop", "length")
    assert client.closed() == 1001
    assert server.process.wait(PATIENCE) == 0


def test_a_drain_has_an_end(serve, connect):
    server = serve("--drain-seconds", "1", *TALKATIVE)
    server.wait_ready()
    client = connect(server.ws)
    # None of them stops by itself.
    on = {"logit_bias": {str(end): -100 for end in ENDS}, "temperature": 2.0, "top_p": 1.0, "top_k": 0}
    for request in range(8):
        client.ask(f"r{request}", "Hello", sampling={"max_new_tokens": 2000, **on})
    client.until("token")
    server.process.send_signal(signal.SIGTERM)
    # Each question has its end, running, waiting or queued; what could not be answered in a second was not.
    reasons = [client.done(f"r{request}")["finish_reason"] for request in range(8)]
    assert set(reasons) <= {"cancelled", "length"} and reasons[-1] == "cancelled"
    assert client.closed() == 1001
    assert server.process.wait(PATIENCE) == 0


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
    """However long answers may take to finish: there are none."""
    server = serve("--drain-seconds", "3600")
    server.wait_ready()
    assert server.stop() == 0


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
            welcome = message = json.loads(socket.recv(timeout=PATIENCE))
            state = welcome["state"]
            while state != "ready":
                assert state in ("loading", "warming")
                # What the welcome may not have known is told with the state from which on it is.
                message = json.loads(socket.recv(timeout=PATIENCE))
                state = message["state"] if message["type"] == "status" else state
                if message["type"] == "status":
                    assert ("sampling" in message) == ("model" in message) == (state != "loading")
            assert message["model"]["name"] and message["sampling"]["max_new_tokens"] > 0
        with open_socket(url) as socket:
            welcome = json.loads(socket.recv(timeout=PATIENCE))
            assert (message["model"], message["sampling"]) == (welcome["model"], welcome["sampling"])
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_idle_connections_and_forgotten_sessions_end(serve, connect, raw):
    # Time enough for a test whose turn comes late.
    server = serve("--idle-seconds", "10", "--resume-seconds", "2", "--upload-idle-seconds", "1")
    server.wait_ready()
    # Who answers pings is not idle, for as many of them as come in half as much time again.
    patient = raw(server.port)
    began = time.monotonic()
    while time.monotonic() - began < 15:
        patient.send(patient.frame(0x8A, patient.until(9)))
    patient.send(patient.frame(0x81, b'{"type":"ping","t":"still here"}'))
    while json.loads(patient.until(1)).get("t") != "still here":
        pass
    client = connect(server.ws)
    client.send(type="upload", upload=1, bytes=10)
    client.piece(1, b"12345")
    assert client.error("upload_timeout")["upload"] == 1
    patient.sock.close()
    client.cut()
    wait_for(lambda: metrics(server)["glimpse_sessions"] == 0)
    client.connect(wait=False)
    client.send(type="hello", resume={"session": client.session, "last_event": 0})
    assert client.until("welcome", lambda m: "resumed" in m)["reason"] == "expired"


def test_a_silent_connection_is_closed(serve, raw):
    server = serve("--idle-seconds", "2")
    server.wait_ready()
    before = time.monotonic()
    socket = raw(server.port)
    # It answers no ping; and it was given its time.
    assert socket.close_code() == 4002
    assert time.monotonic() - before > 1


def fill(slow) -> int:
    """Sends large pings, of which nothing is read, until both ways are full or the server ends it; how many went whole."""
    ping = slow.frame(0x81, json.dumps({"type": "ping", "t": "x" * 60_000}).encode())
    slow.sock.settimeout(3)
    pings = 0
    try:
        while pings * len(ping) < 100_000_000:
            slow.sock.sendall(ping)
            pings += 1
    except (TimeoutError, ConnectionError):
        return pings
    pytest.fail("the server reads on and on from a client that does not read")


def test_a_client_that_does_not_read(serve, raw, connect):
    """Its memory is bounded, its connection closes with 4008, its session lives, and nobody else waits."""
    server = serve("--stall-seconds", "5", "--outbox-bytes", "64KiB", "--replay-bytes", "1MiB")
    server.wait_ready()
    slow = raw(server.port)
    session = json.loads(slow.until(1))["session"]
    before = resident(server)
    fill(slow)
    assert resident(server) - before < 20_000
    other = connect(server.ws)
    other.ask("a", "Hello")
    other.done("a")
    wait_for(lambda: metrics(server)["glimpse_connections"] == 1)
    slow.sock.settimeout(PATIENCE)
    with pytest.raises((EOFError, ConnectionError, AssertionError)) as ended:
        payload = slow.until(8)
        raise AssertionError(int.from_bytes(payload[:2], "big"))
    assert ended.type is not AssertionError or ended.value.args[0] == 4008
    other.connect(wait=False)
    other.send(type="hello", resume={"session": session, "last_event": 0})
    assert other.until("welcome", lambda m: "resumed" in m)["resumed"] is True


def test_a_client_that_catches_up_was_not_idle(serve, raw):
    """What it sent while too much was unsent could not be read: it is not closed for its silence."""
    server = serve("--idle-seconds", "4", "--stall-seconds", "600", "--outbox-bytes", "64KiB", "--replay-bytes", "1MiB")
    server.wait_ready()
    slow = raw(server.port)
    pings = fill(slow)
    # Time has to pass here, twice what an idle connection is given.
    time.sleep(8)
    slow.sock.settimeout(PATIENCE)
    pongs = 0
    while pongs < pings:
        opcode, payload = slow.recv()
        assert opcode != 8, f"closed with {int.from_bytes(payload[:2], 'big')} after {pongs} of {pings} pongs"
        pongs += opcode == 1 and b'"pong"' in payload[:200]


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
    port = free_port()
    with open("/dev/full", "w") as full:
        command = [binary, "--log", "trace", "serve", "--listen", f"127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=full, stderr=full)
    try:

        def connected():
            assert process.poll() is None
            try:
                return connect(f"ws://127.0.0.1:{port}/ws")
            except OSError:
                return None

        client = wait_for(connected)
        # It may be by the time that somebody comes, and then says so at once and no more.
        if client.welcome["state"] != "ready":
            client.until("status", lambda m: m["state"] == "ready")
        client.upload(1, b"no picture")
        client.error("image_unsupported")
        client.ask("a", "How many circles are there?", image=client.image(2, scene()))
        client.done("a")
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


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
