"""Questions and their answers, as a stranger's client sees them."""

import math
import time

import pytest

from watching import TALKATIVE, metrics, rise


def test_a_picture_in_words_out(connect, scene):
    client = connect()
    assert client.welcome["protocol"] == "glimpse.v1"
    # What a question leaves open is the checkpoint's: models/demo/generation_config.json, and what the server adds to it.
    assert client.welcome["sampling"] == {
        "temperature": 0.1, "top_p": 0.8, "top_k": 50, "repetition_penalty": 1.0, "max_new_tokens": 1024,
    }
    client.upload(1, scene())
    client.ask("a", "How many circles are there?", upload=1)
    done = client.done("a")
    assert done["finish_reason"] in ("stop", "length")
    kinds = [m["type"] for m in client.of("a")]
    assert kinds[0] == "queued" and kinds[-1] == "done"
    started = kinds.index("started")
    assert set(kinds[1:started]) <= {"queued"}
    assert set(kinds[started + 1 : -1]) == {"token"}
    order = [m["type"] for _, m in sorted(client.events.items()) if "image" in m]
    assert order == ["upload_received", "image_ready", "image_encoded"]
    usage = done["usage"]
    assert usage["prompt_tokens"] > usage["image_tokens"] > 0
    assert 0 < usage["completion_tokens"] <= 48
    assert client.answer("a")


def test_times_add_up_and_lie_within_our_clock(connect, scene):
    """How near they come to it, `tests/tests/system/timings.rs` tells."""
    client = connect()
    image = client.image(1, scene())
    client.until("image_encoded")
    before = time.monotonic()
    client.ask("a", "What is in the picture?", image=image)
    client.until("token")
    first = (time.monotonic() - before) * 1000
    done = client.done("a")
    total = (time.monotonic() - before) * 1000
    times = done["timings"]
    parts = [times[f"{part}_ms"] for part in ("image_wait", "queue", "prefill", "decode")]
    assert math.isclose(sum(parts), times["total_ms"], rel_tol=0.05, abs_tol=1)
    assert 0 < times["first_token_ms"] <= first + 1
    assert times["first_token_ms"] <= times["total_ms"] <= total + 1
    assert all(value >= 0 for value in times.values())


def test_two_sessions_at_once_do_not_mix(connect, scene):
    """Each gets the answer that it gets alone, though the two are written at the same time."""
    questions = {1: "How many circles are there?", 2: "What colour is it?"}
    pictures = {1: scene(circles=2, colour="red"), 2: scene(circles=5, colour="blue")}
    alone = {}
    for number, question in questions.items():
        client = connect()
        image = client.image(1, pictures[number])
        client.ask("alone", question, image=image)
        client.done("alone")
        alone[number] = client.answer("alone")
    together = {number: connect() for number in questions}
    images = {number: client.image(1, pictures[number]) for number, client in together.items()}
    for number, client in together.items():
        client.ask("a", questions[number], image=images[number])
    for number, client in together.items():
        client.done("a")
        assert client.answer("a") == alone[number]


def test_several_conversations_share_a_picture_and_remember_their_own(connect, scene):
    client = connect()
    image = client.image(1, scene())
    client.ask("a1", "How many circles are there?", image=image)
    client.ask("b1", "What colour are they?", image=image)
    a, b = client.done("a1")["conversation"], client.done("b1")["conversation"]
    assert a != b
    client.ask("a2", "And squares?", conversation=a)
    client.ask("a3", "And triangles?", conversation=a)
    second, third = client.done("a2"), client.done("a3")
    assert second["usage"]["cached_tokens"] > 0
    assert third["usage"]["prompt_tokens"] > second["usage"]["prompt_tokens"]
    # In order of arrival within the conversation.
    ends = [m["request"] for m in client.events.values() if m["type"] in ("started", "done") and m["request"] in ("a2", "a3")]
    assert ends == ["a2", "a2", "a3", "a3"]


def test_history_replaces_what_was_said(connect, scene):
    client = connect()
    image = client.image(1, scene())
    client.ask("a", "How many circles are there?", image=image)
    conversation = client.done("a")["conversation"]
    said = [{"question": "How many circles are there?", "answer": client.answer("a")}]
    client.ask("b", "What colour are they?", conversation=conversation)
    client.done("b")
    client.ask("c", "What colour are they?", conversation=conversation, history=said)
    client.done("c")
    assert client.answer("c") == client.answer("b")
    # Restored in another session, as after a restart of the server.
    other = connect()
    image = other.image(1, scene())
    other.ask("d", "What colour are they?", image=image, history=said)
    other.done("d")
    assert other.answer("d")
    # Starting over.
    client.ask("e", "How many circles are there?", conversation=conversation, history=[])
    client.done("e")
    assert client.answer("e") == client.answer("a")


def test_an_empty_answer_leaves_no_trace(connect):
    """In `history`, or cancelled before its first word: the prompt is as if both questions stood in one place."""
    client = connect()
    first, second = "How many circles are there?", "What colour are they?"
    prompts = {}
    for request, text in (("a", first), ("b", second)):
        client.ask(request, text, sampling={"max_new_tokens": 1})
        done = client.done(request)
        prompts[request] = done["usage"]["prompt_tokens"]
    client.ask("c", second, history=[{"question": first, "answer": ""}])
    usage = client.done("c")["usage"]
    # Two ids open a conversation and one asks for the answer: both prompts have them, and the joint one has them once.
    assert usage["prompt_tokens"] == prompts["a"] + prompts["b"] - 3
    # What was computed for the first question, up to where its answer was asked for, is of use again.
    assert usage["cached_tokens"] == prompts["a"] - 1


def test_a_question_without_a_picture(connect):
    client = connect()
    client.ask("a", "Hello")
    assert client.done("a")["usage"]["image_tokens"] == 0


def test_cancel_frees_the_worker(connect, scene):
    client = connect()
    image = client.image(1, scene())
    client.ask("a", "Describe it.", image=image, sampling={"max_new_tokens": 1000})
    client.ask("b", "Describe it again.", image=image, sampling={"max_new_tokens": 1000})
    client.ask("c", "And again.", image=image, sampling={"max_new_tokens": 1000})
    for request in ("c", "a", "b"):
        client.send(type="cancel", request=request)
    for request in ("a", "b", "c"):
        done = client.done(request)
        # It may have come to its own end before the cancel arrived.
        assert done["finish_reason"] in ("cancelled", "stop")
    client.send(type="cancel", request="a")
    client.send(type="cancel", request="never")
    client.ask("d", "How many?", image=image)
    client.done("d")
    client.send(type="ping", t=1)
    client.until("pong")
    assert [m["type"] for m in client.of("a")].count("done") == 1


def test_a_session_that_ends_frees_the_worker(serve, connect, scene):
    """Its long answers stop with it: others need not wait for them."""
    server = serve(*TALKATIVE)
    server.wait_ready()
    before = metrics(server)
    hog = connect(server.ws)
    image = hog.image(1, scene())
    for i in range(4):
        hog.ask(f"r{i}", f"Tell me everything, {i}.", image=image, sampling={"max_new_tokens": 1500})
    hog.until("token")
    hog.close(1000)
    client = connect(server.ws)
    image = client.image(1, scene(circles=1))
    client.ask("a", "How many circles are there?", image=image)
    client.done("a")
    ended = rise(server, before, "glimpse_requests_total")
    assert sum(by for name, by in ended.items() if "cancelled" in name) == 4
    # None of them was written to its end.
    (written,) = rise(server, before, "glimpse_completion_tokens_total").values()
    assert written < 2 * 1500


@pytest.mark.parametrize("stop", ["e", "a"])
def test_stop_strings_are_not_sent(connect, stop):
    client = connect()
    client.ask("a", "Hello", sampling={"stop": [stop]})
    client.done("a")
    assert stop not in client.answer("a")


def test_the_same_seed_draws_the_same_answer(connect):
    client = connect()
    for request in ("a", "b"):
        client.ask(request, "Hello", sampling={"temperature": 1.0, "seed": 7})
        client.done(request)
    assert client.answer("a") == client.answer("b")
