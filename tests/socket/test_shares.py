"""One client that takes much of what all share gives way, and nobody else notices: the attacks come from another address."""

import json
import signal
import time
import urllib.request
from pathlib import Path

from websockets.exceptions import ConnectionClosed

STRANGER = "127.0.0.2"
ROOT = Path(__file__).resolve().parent.parent.parent
# Random weights of the demo's shape do not know when to stop: their answers are as long as asked for.
TALKATIVE = ("--random-weights", "1", "--config", str(ROOT / "models/demo/config.json"))
MIB = 1 << 20


def gauge(server, name: str) -> float:
    with urllib.request.urlopen(server.url + "/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def strange(connect, server):
    return connect(server.ws, source_address=(STRANGER, 0))


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def drained(client) -> list[dict]:
    """Whatever there is to read, until a pong says that this was all; or until the connection closes."""
    messages = []
    try:
        client.send(type="ping", t="all")
        while (message := client.recv())["type"] != "pong":
            messages.append(message)
    except ConnectionClosed:
        pass
    return messages


def test_messages_that_never_end(serve, connect, raw):
    """A hundred that are nearly whole, as one frame or as parts, take no more than there is for all; who sent them pays."""
    server = serve("--message-memory", "16MiB", "--upload-idle-seconds", "300", "--idle-seconds", "300")
    server.wait_ready()
    text = json.dumps({"type": "ask", "request": "mine", "text": "Hello", "history": [{"question": "x" * MIB, "answer": ""}]}).encode()
    mine = raw(server.port)
    frame = mine.frame(0x81, text)
    mine.send(frame[: MIB // 2])
    wait_for(lambda: gauge(server, "glimpse_message_buffer_bytes") > MIB // 4)
    before = gauge(server, "process_resident_memory_bytes")
    strangers, most = [], 0
    for number in range(100):
        socket = raw(server.port, source=STRANGER)
        head = socket.frame(0x81 if number % 2 else 0x01, b" " * int(1.8 * MIB), length=int(1.9 * MIB) if number % 2 else None)
        socket.send(head)
        strangers.append(socket)
        if number % 10 == 9:
            # Who is told to go gives its memory back when its turn comes.
            wait_for(lambda: gauge(server, "glimpse_message_buffer_bytes") <= 17 * MIB)
            most = max(most, gauge(server, "glimpse_message_buffer_bytes"))
    assert most > MIB
    assert gauge(server, "process_resident_memory_bytes") - before < 100 * MIB
    codes = []
    # Those that are left stand still.
    for socket in strangers[:80]:
        told = json.loads(socket.until(1))
        while told["type"] in ("welcome", "status"):
            told = json.loads(socket.until(1))
        assert told["code"] == "busy" and told["retry_after_ms"] > 0
        codes.append(socket.close_code())
    assert codes == [4429] * 80
    mine.send(frame[MIB // 2 :])
    answer = json.loads(mine.until(1))
    while answer.get("request") != "mine":
        answer = json.loads(mine.until(1))
    other = connect(server.ws)
    other.ask("a", "Hello")
    other.done("a")


def test_a_message_that_stands_still(serve, raw):
    """Whatever comes between its parts, it may not stand still; one that goes on slowly may."""
    server = serve("--upload-idle-seconds", "5")
    server.wait_ready()
    still, slow = raw(server.port), raw(server.port)
    still.send(still.frame(0x01, b'{"type":'))
    text = slow.frame(0x81, b'{"type":"ping","t":"slow"}')
    for at in range(0, len(text)):
        slow.send(text[at : at + 1])
        still.send(still.frame(0x89, b"here") + still.frame(0x00, b""))
        time.sleep(0.2)
    assert still.close_code() == 4002
    while b"slow" not in slow.until(1):
        pass


def test_a_message_of_very_many_values(serve, connect):
    """Two megabytes of the smallest values there are take a hundred times as much once they are read: they are not."""
    server = serve()
    server.wait_ready()
    client = connect(server.ws)
    before = gauge(server, "process_resident_memory_bytes")
    turns = ",".join(['{"question":"","answer":""}'] * 70_000)
    client.text('{"type":"ask","request":"a","text":"?","history":[' + turns + "]}")
    assert client.error("bad_message")["request"] == "a"
    client.text('{"type":"ping","t":[' + ",".join(['{"":0}'] * 250_000) + "]}")
    client.error("bad_message")
    # Read one by one they are counted for what they take.
    turns = [{"question": "", "answer": ""}] * 4096
    for number in range(120):
        client.ask(f"r{number}", "?", history=turns)
        client.end(f"r{number}")
        client.send(type="ack", event=client.last_event)
    assert gauge(server, "glimpse_session_memory_bytes") < 12 * MIB
    assert gauge(server, "process_resident_memory_bytes") - before < 100 * MIB


def test_uploads_that_never_end(serve, connect, scene):
    """They fill the memory for uploads; whoever sends another picture does not notice."""
    server = serve("--upload-memory", "32MiB", "--upload-bytes", "8MiB")
    server.wait_ready()
    client = connect(server.ws)
    data = scene()
    client.send(type="upload", upload=99, bytes=len(data))
    client.piece(99, data[:1000])
    strangers, codes = [], []
    for session in range(4):
        stranger = strange(connect, server)
        strangers.append(stranger)
        for number in range(3):
            stranger.upload(number, bytes(7 * MIB))
            stranger.send(type="upload", upload=10 + number, bytes=8 * MIB)
            for _ in range(40):
                stranger.piece(10 + number, bytes(65_536))
            drained(stranger)
        assert gauge(server, "glimpse_upload_buffer_bytes") <= 32 * MIB
        client.image(session, scene(1 + session))
    # The oldest of all goes on.
    client.piece(99, data[1000:])
    client.until("upload_received", lambda m: m["upload"] == 99)


def test_uploads_of_the_greediest_end_with_a_reason(serve, connect, scene):
    server = serve("--upload-memory", "16MiB", "--upload-bytes", "8MiB")
    server.wait_ready()
    client, told = connect(server.ws), []
    strangers = [strange(connect, server) for _ in range(2)]
    for stranger in strangers:
        for number in range(2):
            stranger.send(type="upload", upload=number, bytes=8 * MIB)
            for _ in range(100):
                stranger.piece(number, bytes(65_536))
            told += drained(stranger)
    client.image(1, scene())
    told += drained(strangers[0])
    ended = [m for m in told if m["type"] == "error"]
    assert ended and all(m["code"] == "busy" and m["retry_after_ms"] > 0 and "upload" in m for m in ended)


def test_what_is_kept_for_a_resume_is_bounded_for_all(serve, connect):
    """Errors that nobody acknowledges, over many sessions: they go, and a small session is resumed with all its events."""
    limits = ("--message-bytes", "80KiB", "--outbox-bytes", "64KiB", "--replay-bytes", "512KiB", "--session-memory", "2MiB")
    server = serve(*limits)
    server.wait_ready()
    client = connect(server.ws)
    client.ask("a", "Hello")
    conversation = client.done("a")["conversation"]
    seen = dict(client.events)
    client.cut()
    for _ in range(8):
        stranger = strange(connect, server)
        try:
            for _ in range(20):
                for _ in range(100):
                    stranger.ws.send(b"abc")
                drained(stranger)
        except ConnectionClosed:
            pass
        stranger.cut()
        assert gauge(server, "glimpse_session_memory_bytes") < 2 * MIB + MIB // 4
    client.events.clear()
    assert client.resume(0)["resumed"] is True
    while client.last_event < max(seen):
        client.recv()
    assert {n: m["type"] for n, m in client.events.items()} == {n: m["type"] for n, m in seen.items()}
    client.ask("b", "And now?", conversation=conversation)
    client.done("b")


def test_a_queue_full_of_one_clients_questions(serve, connect):
    server = serve("--queue", "4", *TALKATIVE)
    server.wait_ready()
    strangers = [strange(connect, server) for _ in range(2)]
    for number in range(3):
        for stranger in strangers:
            stranger.ask(f"r{number}", "Hello", sampling={"max_new_tokens": 1500})
            stranger.until("queued", lambda m: m["request"] == f"r{number}")
    strangers[0].ask("more", "Hello")
    assert strangers[0].error("busy")["request"] == "more"
    client = connect(server.ws)
    client.ask("a", "Hello", sampling={"max_new_tokens": 5})
    client.done("a")
    # What had to make room was the newest.
    gave_way = strangers[1].error("busy")
    assert gave_way["request"] == "r2" and gave_way["retry_after_ms"] > 0
    for stranger in strangers:
        for number in range(3):
            stranger.send(type="cancel", request=f"r{number}")


def test_a_process_that_stood_still_blames_nobody(serve, connect, scene):
    """Stopped for longer than anybody may be silent; what was sent meanwhile waits in the kernel."""
    server = serve("--upload-idle-seconds", "5", "--idle-seconds", "5", "--resume-seconds", "8")
    server.wait_ready()
    client, data = connect(server.ws), scene()
    away = connect(server.ws)
    away.ask("a", "Hello")
    away.done("a")
    half = len(data) // 2
    client.send(type="upload", upload=1, bytes=len(data))
    client.piece(1, data[:half])
    client.until("upload_accepted")
    away.cut()
    wait_for(lambda: gauge(server, "glimpse_connections") == 1)
    server.process.send_signal(signal.SIGSTOP)
    try:
        client.piece(1, data[half:])
        time.sleep(12)
    finally:
        server.process.send_signal(signal.SIGCONT)
    client.until("image_ready")
    assert away.resume()["resumed"] is True
    client.send(type="ping")
    client.until("pong")
