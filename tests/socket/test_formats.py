"""Answers of a format: what ends has it, what is cut begins like it. The weights are random, so nothing but the format leads to it."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from schemas import schemas

ROOT = Path(__file__).resolve().parent.parent.parent
RANDOM = ("--random-weights", "1", "--config", str(ROOT / "models/demo/config.json"))


@pytest.fixture(scope="module")
def random_weights(serve):
    server = serve(*RANDOM)
    server.wait_ready()
    return server.ws


def ask(client, number, format, **sampling):
    """The answer to a question of its own conversation, and how it ended."""
    request = f"r{number}"
    client.ask(request, "What does the receipt say?", format=format, sampling={"temperature": 1, "seed": number, "max_new_tokens": 1500} | sampling)
    end = client.done(request)
    client.send(type="forget", conversation=end["conversation"])
    client.send(type="ack", event=client.last_event)
    return client.answer(request), end["finish_reason"]


def begins_like_json(text: str) -> bool:
    """Whether something can be written behind it that makes it JSON: the decoder complains of its end, or of nothing."""
    try:
        json.loads(text)
        return True
    except json.JSONDecodeError as error:
        return error.pos >= len(text) or error.msg.startswith(("Unterminated string", "Invalid \\", "Expecting value"))


def ends_valid(client, bounded: bool, examples: int) -> tuple[int, int]:
    """Answers by so many schemas: how many there were, and how many ended with `stop`. Each of these is valid."""
    ends = []

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(schemas(bounded))
    def answer(schema):
        text, end = ask(client, len(ends), {"type": "json_schema", "schema": schema}, max_new_tokens=1500 if bounded else 100)
        ends.append(end)
        if end == "stop":
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
        else:
            assert begins_like_json(text), text
        between = re.sub(r'"(?:[^"\\]|\\.)*("|$)', "string", text)
        assert not re.search(r"[ \n\r\t]{9}", between), text

    answer()
    return len(ends), ends.count("stop")


def test_what_ends_is_valid_by_its_schema(connect, random_weights):
    count, stopped = ends_valid(connect(random_weights), True, 40)
    assert stopped >= 0.95 * count


def test_what_has_no_end_begins_like_what_is_valid(connect, random_weights):
    ends_valid(connect(random_weights), False, 20)


@pytest.mark.long
def test_a_thousand_schemas(connect, random_weights):
    count, stopped = ends_valid(connect(random_weights), True, 1000)
    print(f"{stopped} of {count} ended with `stop`")
    assert stopped >= 0.99 * count


def test_other_formats(connect, random_weights):
    client = connect(random_weights)
    choice = ["a cat", "a dog (or two)", " 猫 "]
    for number in range(8):
        text, end = ask(client, f"c{number}", {"type": "choice", "choice": choice}, seed=number)
        assert (text in choice, end) == (True, "stop")
        text, end = ask(client, f"x{number}", {"type": "regex", "regex": r"[A-F]{2}-\d{3}"}, seed=number)
        assert re.fullmatch(r"[A-F]{2}-\d{3}", text) and end == "stop"
        grammar = 'start: "(" item ("," item){0,3} ")"\nitem: /[a-z]{1,3}/'
        text, end = ask(client, f"g{number}", {"type": "grammar", "grammar": grammar}, seed=number)
        assert re.fullmatch(r"\([a-z]{1,3}(,[a-z]{1,3}){0,3}\)", text) and end == "stop"
        text, _ = ask(client, f"o{number}", {"type": "json_object"}, seed=number, max_new_tokens=60)
        assert text.startswith("{") and begins_like_json(text)


def test_a_format_that_nobody_understands_is_refused_and_never_ignored(connect, random_weights):
    client = connect(random_weights)
    for number, format in enumerate(
        [
            {"type": "json_schema", "schema": {"type": "dance"}},
            {"type": "json_schema", "schema": {"type": "object", "propertyNames": {"pattern": "^a"}, "unevaluatedProperties": False}},
            {"type": "json_schema", "schema": {"$ref": "https://example.com/other.json"}},
            {"type": "regex", "regex": "(" * 30_000},
            {"type": "grammar", "grammar": "begin: 'a'"},
            {"type": "grammar", "grammar": "start: " + "(" * 30_000},
        ]
    ):
        client.ask(f"r{number}", "What?", format=format)
        end = client.end(f"r{number}")
        assert (end["type"], end.get("code")) == ("error", "bad_format"), format
        assert len(end["message"]) < 500
    client.ask("after", "What?")
    client.done("after")


def test_tokens_are_told_with_what_might_have_been(connect, scene):
    """With the demo's own words: the pieces' tokens, joined, are its bytes."""
    client = connect()
    client.upload(1, scene())
    client.ask("a", "How many circles are there?", upload=1, logprobs=3)
    done = client.done("a")
    pieces = [m for m in client.of("a") if m["type"] == "token"]
    tokens = [token for piece in pieces for token in piece["tokens"]]
    # The stop token is no part of the answer.
    assert done["usage"]["completion_tokens"] - len(tokens) in (0, 1)
    said = b"".join(bytes(token["bytes"]) for token in tokens).decode()
    assert said.lstrip() == client.answer("a")
    for token in tokens:
        assert len(token["top"]) == 3 and token["top"][0]["id"] == token["id"]
        assert [each["logprob"] for each in token["top"]] == sorted((each["logprob"] for each in token["top"]), reverse=True)
    client.ask("b", "How many circles are there?", conversation=done["conversation"], logprobs=0)
    client.done("b")
    assert all(token["top"] == [] for m in client.of("b") if m["type"] == "token" for token in m["tokens"])
    # What a bias of -100 rules out does not come; how probable it was stays as it is.
    first = tokens[1]
    client.ask("c", "How many circles are there?", upload=1, history=[], logprobs=1, sampling={"logit_bias": {str(first["id"]): -100}})
    client.done("c")
    others = [token for m in client.of("c") if m["type"] == "token" for token in m["tokens"]]
    assert first["id"] not in [token["id"] for token in others]
    assert others[1]["top"][0]["id"] == first["id"]


def test_a_system_turn_belongs_to_the_conversation(connect, scene):
    client = connect()
    client.upload(1, scene(), system="You count circles.")
    client.ask("a", "How many?", upload=1)
    first = client.done("a")
    conversation = first["conversation"]

    def told(request, **fields):
        """How many entries of the prompt there were, where the question is asked as the first."""
        client.ask(request, "How many?", conversation=conversation, history=[], **fields)
        return client.done(request)["usage"]["prompt_tokens"]

    behind = first["usage"]["prompt_tokens"]
    assert told("b") == behind
    longer = told("c", system="You count circles, and you say nothing else at all.")
    assert longer > behind and told("d") == longer
    without = told("e", system="")
    assert without < behind and told("f") == without
    # It outlives the connection.
    client.ask("g", "How many?", conversation=conversation, history=[], system="You count circles.")
    client.done("g")
    client.cut()
    client.resume()
    assert told("h") == behind
    # It was looked at behind the system turn: a new conversation's first question costs its own tokens.
    fresh = connect()
    fresh.upload(1, scene(circles=5), system="You count circles.")
    fresh.until("image_encoded")
    fresh.ask("a", "How many?", upload=1)
    usage = fresh.done("a")["usage"]
    assert usage["prompt_tokens"] - usage["cached_tokens"] < 24


def test_a_picture_may_come_with_a_later_turn(connect, scene):
    client = connect()
    history = [{"question": "Hello!", "answer": "Hello."}]
    image = client.image(1, scene())
    client.ask("a", "How many circles are there?", image=image, history=history, picture_turn=1)
    first = client.done("a")
    client.ask("b", "And squares?", conversation=first["conversation"])
    second = client.done("b")
    # It stays where it was: all that was said before comes from the cache.
    assert second["usage"]["cached_tokens"] >= first["usage"]["prompt_tokens"]
    client.ask("c", "How many circles are there?", image=image, history=history)
    assert client.done("c")["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
