"""Connections that break, and sessions that don't."""

import hashlib
import random
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed

# Small and slow, as on a bad line: an upload takes about as long as an answer.
PIECE, PAUSE = 4 * 1024, 0.002


def test_what_happened_meanwhile_comes_once_and_in_order(connect):
    client = connect()
    client.ask("alone", "Hello", sampling={"max_new_tokens": 60})
    client.done("alone")
    client.ask("a", "Hello", sampling={"max_new_tokens": 60})
    client.until("token")
    client.cut()
    time.sleep(0.5)
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


@pytest.mark.timeout(600)
def test_two_hundred_cuts_lose_no_word(connect, noise):
    """Uploads and answers, cut at 200 random moments: every answer whole and the same as without, no piece twice.

    `Client.recv` checks of every event that it is the next one. A fifth of the cuts at least hit an upload, and as many an
    answer.
    """
    data = noise((1000, 700))
    question = {"text": "What is in the picture?", "sampling": {"max_new_tokens": 40}}
    whole = connect()
    image = whole.image(1, data)
    whole.ask("a", image=image, **question)
    whole.done("a")
    expected = whole.answer("a")

    client, moments, cuts, rounds = connect(), random.Random(1), 0, 0
    hit = {"upload": 0, "answer": 0}
    timer = threading.Timer(0, lambda: None)
    while cuts < 200:
        rounds += 1
        request = f"r{rounds}"
        # The same picture, and another file to the server.
        file = data + bytes(rounds)
        while not client.of(request) or client.of(request)[-1]["type"] != "done":
            try:
                if not timer.is_alive():
                    timer = threading.Timer(moments.expovariate(1 / 0.05), client.cut)
                    timer.start()
                exchange(client, rounds, file, request, question)
            except ConnectionClosed:
                timer.join()
                cuts += 1
                arrived = any(m["type"] == "upload_received" and m["upload"] == rounds for m in client.events.values())
                hit["answer" if arrived else "upload"] += 1
                assert client.resume()["resumed"] is True
        assert client.answer(request) == expected
    timer.join()
    assert rounds >= 3 and min(hit.values()) >= 40, (rounds, hit)


def exchange(client, upload: int, file: bytes, request: str, question: dict) -> None:
    """All of a round, or what is left of it: what was not confirmed is said again."""
    received = any(m["type"] == "upload_received" and m["upload"] == upload for m in client.events.values())
    if not received:
        client.send(type="upload", upload=upload, bytes=len(file))
        at = client.until("upload_accepted", lambda m: m["upload"] == upload)["received"]
        for at in range(at, len(file), PIECE):
            client.piece(upload, file[at : at + PIECE])
            time.sleep(PAUSE)
    if not client.of(request):
        client.ask(request, upload=upload, **question)
    client.done(request)


def test_answers_go_on_while_nobody_is_connected(connect):
    client = connect()
    client.ask("a", "Hello", sampling={"max_new_tokens": 30})
    client.until("started")
    client.cut()
    time.sleep(3)
    client.resume()
    started = time.monotonic()
    client.done("a")
    # It was finished long ago: all of it comes at once.
    assert time.monotonic() - started < 1
