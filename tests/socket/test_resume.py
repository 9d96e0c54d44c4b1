"""Connections that break, and sessions that don't."""

import hashlib
import random

import pytest
from websockets.exceptions import ConnectionClosed

from watching import TALKATIVE, metrics, rise, wait_for

# Small, as on a bad line: much of a file is then in frames of which the server has got all.
PIECE = 4 * 1024


def test_what_happened_meanwhile_comes_once_and_in_order(server, connect):
    client = connect()
    client.ask("alone", "Hello", sampling={"max_new_tokens": 60})
    client.done("alone")
    before = metrics(server)
    client.ask("a", "Hello", sampling={"max_new_tokens": 60})
    client.until("token")
    client.cut()
    wait_for(lambda: rise(server, before, "glimpse_requests_total"))
    welcome = client.resume()
    assert welcome["resumed"] is True
    client.done("a")
    assert client.answer("a") == client.answer("alone")


def test_resume_of_what_is_not_there(connect):
    client = connect()
    for session in ("0" * 32, "f" * 32, client.session[:-1] + "x", ""):
        other = connect(wait=False)
        other.send(type="hello", resume={"session": session, "last_event": 0})
        if session == "":
            other.error("bad_message")
            continue
        welcome = other.until("welcome", lambda m: "resumed" in m)
        assert (welcome["resumed"], welcome["reason"]) == (False, "unknown")
        assert welcome["session"] != session
        # The new session goes on.
        other.send(type="ping")
        other.until("pong")


def test_ids_can_not_be_guessed(connect):
    ids = [connect().session for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(bytes.fromhex(each)) == 16 for each in ids)


def test_a_resume_takes_the_session_over(connect):
    client = connect()
    client.ask("a", "Hello")
    client.done("a")
    old = client.ws
    client.resume()
    # The old connection hears why it ends; the session lives.
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            old.recv(timeout=10)
    assert closed.value.rcvd.code == 4001
    client.ask("b", "Hello again")
    client.done("b")


def test_close_1000_ends_the_session_and_others_do_not(connect):
    client = connect()
    client.close(1001)
    assert client.resume()["resumed"] is True
    client.close(1000)
    client.connect(wait=False)
    client.send(type="hello", resume={"session": client.session, "last_event": 0})
    assert client.until("welcome", lambda m: "resumed" in m)["reason"] == "unknown"


def test_a_gap_is_told(connect):
    client = connect()
    client.ask("a", "Hello")
    done = client.done("a")
    client.send(type="ack", event=done["event"])
    client.send(type="ping")
    client.until("pong")
    client.cut()
    client.connect(wait=False)
    client.send(type="hello", resume={"session": client.session, "last_event": 1})
    assert client.until("welcome", lambda m: "resumed" in m)["reason"] == "gap"


def test_a_repeated_ask_is_ignored(connect):
    client = connect()
    client.ask("a", "Hello")
    client.until("started")
    client.cut()
    client.resume()
    client.ask("a", "Hello")
    client.done("a")
    client.send(type="ping")
    client.until("pong")
    kinds = [m["type"] for m in client.of("a")]
    assert (kinds.count("started"), kinds.count("done")) == (1, 1)


def test_an_upload_goes_on(connect, noise):
    client = connect()
    data = noise((900, 700))
    client.send(type="upload", upload=1, bytes=len(data))
    client.ask("a", "What is it?", upload=1)
    client.piece(1, data[:60_000])
    client.send(type="ping")
    client.until("pong")
    client.cut()
    client.resume()
    client.send(type="upload", upload=1, bytes=len(data))
    assert client.until("upload_accepted")["received"] == 60_000
    for at in range(60_000, len(data), 60_000):
        client.piece(1, data[at : at + 60_000])
    assert client.until("upload_received")["sha256"] == hashlib.sha256(data).hexdigest()
    client.done("a")


def test_two_hundred_cuts_lose_no_word(serve, connect, noise):
    """Uploads and answers, half of the cuts in each: every answer whole and the same as without, no piece twice.

    A cut comes when so many bytes have been sent, often in the middle of a frame, or when so many pieces of the answer have been
    read: how fast the machine is changes nothing. `Client.recv` checks of every event that it is the next one.
    """
    server = serve(*TALKATIVE)
    server.wait_ready()
    data = noise((1000, 700))
    question = {"text": "What is in the picture?", "sampling": {"max_new_tokens": 40}}
    whole = connect(server.ws)
    whole.ask("a", image=whole.image(1, data), **question)
    whole.done("a")
    expected, pieces = whole.answer("a"), len(tokens(whole, "a"))

    client, draw, cuts = connect(server.ws), random.Random(1), {"upload": 0, "question": 0, "answer": 0}
    each = 10
    for number in range(1, 11):
        # The same picture, and another file to the server.
        file, request = data + bytes(number), f"r{number}"
        for end in sorted(draw.sample(range(len(file)), each)):
            send_until(client, number, file, end)
            client.cut()
            cuts["upload"] += 1
            assert client.resume()["resumed"] is True
        # The first of them just after the question, of which nothing was heard then.
        for count in (0, *sorted(draw.sample(range(1, pieces), each - 1))):
            say_the_rest(client, number, file, request, question)
            while len(tokens(client, request)) < count:
                client.recv()
            assert "done" not in [m["type"] for m in client.of(request)]
            client.cut()
            cuts["answer" if count else "question"] += 1
            assert client.resume()["resumed"] is True
        say_the_rest(client, number, file, request, question)
        client.done(request)
        assert client.answer(request) == expected
        assert sum(m["type"] == "upload_received" and m["upload"] == number for m in client.events.values()) == 1
    assert cuts == {"upload": 100, "question": 10, "answer": 90}


def tokens(client, request: str) -> list[dict]:
    return [m for m in client.of(request) if m["type"] == "token"]


def say_the_rest(client, upload: int, file: bytes, request: str, question: dict) -> None:
    """Of a file and a question about it: what was not confirmed is said again after a resume, and nothing else."""
    if not any(m["type"] == "upload_received" and m["upload"] == upload for m in client.events.values()):
        send_until(client, upload, file, len(file))
    if not client.of(request) and not any(m.get("request") == request for m in client.unread):
        client.ask(request, upload=upload, **question)


def send_until(client, upload: int, file: bytes, end: int) -> None:
    """Sends what the server has not got of a file, up to its byte `end`, where a frame may not be whole. The answer may have been
    written while nobody was connected: of what came of it no more is read here."""
    client.send(type="upload", upload=upload, bytes=len(file))
    at = client.ahead("upload_accepted", lambda m: m["upload"] == upload)["received"]
    for at in range(at, end, PIECE):
        piece = file[at : at + PIECE]
        if at + len(piece) > end:
            client.torn_piece(upload, piece, end - at)
        else:
            client.piece(upload, piece)


def test_answers_go_on_while_nobody_is_connected(serve, connect):
    server = serve(*TALKATIVE)
    server.wait_ready()
    client = connect(server.ws)
    before = metrics(server)
    client.ask("a", "Hello", sampling={"max_new_tokens": 300})
    client.until("started")
    client.cut()
    wait_for(lambda: metrics(server)["glimpse_connections"] == 0)
    wait_for(lambda: rise(server, before, "glimpse_requests_total"))
    welcome = client.resume()
    # It was finished before anybody came back, by the server's clock.
    assert client.done("a")["at"] < welcome["at"]
    assert len(tokens(client, "a")) > 100
