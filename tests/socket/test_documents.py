"""What is written for strangers, held against itself and against the server: none of it may drift from the types.

The schemas are held against the Rust types by `cargo test -p glimpse-wire`; here everything else is held against them.
"""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
SIDES = ("client", "server")


def schema(side):
    return json.loads((DOCS / "schemas" / f"{side}.json").read_text())


def definitions(side) -> dict[str, dict]:
    """Each message's schema, by its type."""
    whole = schema(side)
    names = [place["$ref"].removeprefix("#/$defs/") for place in whole["oneOf"]]
    return {whole["$defs"][name]["properties"]["type"]["const"]: whole["$defs"][name] for name in names}


def validator(side):
    jsonschema.Draft202012Validator.check_schema(schema(side))
    return jsonschema.Draft202012Validator(schema(side))


def asyncapi():
    return yaml.safe_load((DOCS / "asyncapi.yaml").read_text())


def find(document, place):
    """What a `$ref` names, in this document or in a file beside it."""
    file, _, path = place.partition("#")
    found = json.loads((DOCS / file).read_text()) if file else document
    for step in path.strip("/").split("/"):
        found = found[step]
    return found


def places(value):
    """Every `$ref`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from places(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from places(inner)


@pytest.mark.parametrize("side", SIDES)
def test_examples_are_valid_and_other_things_are_not(side):
    check = validator(side)
    for kind, definition in definitions(side).items():
        assert definition["examples"], kind
        for example in definition["examples"]:
            check.validate(example)
            for needed in definition["required"]:
                assert not check.is_valid({k: v for k, v in example.items() if k != needed}), (kind, needed)
    for wrong in ({}, {"type": "dance"}, [], "ask"):
        assert not check.is_valid(wrong)


def test_asyncapi_has_every_message_and_leads_nowhere_else():
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    for place in places(document):
        find(document, place)
    messages = document["components"]["messages"]
    expected = {kind: side for side in SIDES for kind in definitions(side)}
    assert set(messages) == set(expected) | {"piece"}
    for kind, side in expected.items():
        assert messages[kind]["name"] == kind
        assert find(document, messages[kind]["payload"]["$ref"]) == definitions(side)[kind]
    assert set(document["channels"]["socket"]["messages"]) == set(messages)
    said = {
        action: {place["$ref"].rpartition("/")[2] for place in operation["messages"]}
        for operation in document["operations"].values()
        for action in [operation["action"]]
    }
    # By the server, which the document speaks of.
    assert said == {"receive": set(definitions("client")) | {"piece"}, "send": set(definitions("server"))}


def rows(heading: str) -> dict[str, str]:
    """The table under a heading of protocol.md: what is in its first column, and the whole row."""
    text = (DOCS / "protocol.md").read_text()
    part = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.M)[0]
    table = [line for line in part.splitlines() if line.startswith("|")][2:]
    return {row.split("|")[1].replace("•", "").strip().strip("`"): row for row in table}


@pytest.mark.parametrize("side, heading", [("client", "What a client sends"), ("server", "What the server sends")])
def test_the_tables_name_every_message_and_every_field(side, heading):
    table = rows(heading)
    whole = schema(side)
    assert set(table) == set(definitions(side))
    common = {"type", "at", "event"} if side == "server" else {"type"}
    for kind, definition in definitions(side).items():
        told = set(re.findall(r"`(\w+)`", table[kind].split("|")[2]))
        fields = set(definition["properties"]) - common
        for name, field in definition["properties"].items():
            # What is in the small objects of a message stands in its row; what is in the large ones, below.
            inner = [place.removeprefix("#/$defs/") for place in places(field)]
            for each in inner:
                if each not in ("Sampling", "Model", "Limits", "State", "Reason", "FinishReason", "ErrorCode"):
                    fields |= set(whole["$defs"][each].get("properties", {}))
        assert told == fields, kind
        numbered = "event" in definition["properties"] and side == "server"
        assert ("•" in table[kind]) == numbered, kind


def test_the_text_names_what_the_tables_leave_out():
    text = (DOCS / "protocol.md").read_text()
    for side, name in (("client", "Sampling"), ("server", "Limits")):
        for field in schema(side)["$defs"][name]["properties"]:
            assert f"`{field}`" in text, field
    for name in ("State", "Reason", "FinishReason"):
        for value in schema("server")["$defs"][name].get("oneOf") or [
            {"const": each} for each in schema("server")["$defs"][name]["enum"]
        ]:
            for each in value.get("enum", [value.get("const")]):
                assert f"`{each}`" in text, each


def test_every_format_of_an_answer_is_told():
    table = rows("An answer's format")
    for each in schema("client")["$defs"]["AnswerFormat"]["oneOf"]:
        kind = each["properties"]["type"]["const"]
        fields = set(re.findall(r"`(\w+)`", table.pop(kind).split("|")[2]))
        assert fields == set(each["properties"]) - {"type"}, kind
    assert not table


def test_every_error_code_and_close_code_is_told():
    codes = {each["const"]: each["description"] for each in schema("server")["$defs"]["ErrorCode"]["oneOf"]}
    table = {row.split("|")[1].strip().strip("`"): row.split("|")[2].strip() for row in rows("Errors").values()}
    assert table == codes
    source = (DOCS.parent / "shared/src/lib.rs").read_text()
    own = set(re.findall(r"pub const \w+: u16 = (\d+);", source))
    assert own <= set(rows("Closing"))


def test_what_is_said_is_as_written(connect, scene):
    """A session that makes the server say everything it can, each frame held against the schemas."""
    client = connect()
    heard, check = set(), {side: validator(side) for side in SIDES}
    receive, send = client.recv, client.send

    def hear(timeout=30):
        message = receive(timeout)
        check["server"].validate(message)
        heard.add(message["type"])
        return message

    def say(**message):
        check["client"].validate(message)
        send(**message)

    client.recv, client.send = hear, say
    heard.add(client.welcome["type"])
    check["server"].validate(client.welcome)
    picture = scene(format="BMP", size=(1000, 700))
    image = client.image(1, picture)
    client.until("image_encoded")
    client.ask("a", "What is it?", image=image, history=[{"question": "q", "answer": "a"}])
    conversation = client.done("a")["conversation"]
    client.ask("b", "And now?", conversation=conversation, sampling={"top_p": 1, "stop": ["."], "seed": 1})
    client.done("b")
    client.ask("f", "Is it?", conversation=conversation, logprobs=1, format={"type": "choice", "choice": ["yes", "no"]}, system="Be brief.")
    client.done("f")
    client.ask("c", " ")
    client.error("empty_text")
    client.send(type="upload", upload=2, bytes=10)
    client.send(type="cancel", upload=2)
    client.error("upload_cancelled")
    for gone in ({"conversation": conversation}, {"image": image}):
        client.send(type="forget", **gone)
        assert gone.items() <= client.until("forgotten").items()
    client.send(type="ack", event=client.last_event)
    client.send(type="ping", t={"any": ["thing"]})
    client.until("pong")
    client.cut()
    client.resume()
    # A `status` comes only when there is news of it.
    check["server"].validate({"type": "status", "at": 1.5, "state": "loading", "progress": 0.5})
    assert heard | {"status"} == set(definitions("server"))


def test_the_schemas_refuse_what_the_server_refuses(connect):
    """Each wrong value that a schema can express is one that the server refuses, and the other way round."""
    check, client = validator("client"), connect()
    ask = {"type": "ask", "request": "r", "text": "Hello"}
    wrong = [
        {"type": "ask", "text": "?"},
        ask | {"request": ""},
        ask | {"request": "x" * 129},
        ask | {"conversation": ""},
        ask | {"upload": -1},
        ask | {"upload": 2**32},
        ask | {"upload": "1"},
        ask | {"sampling": {"temperature": 2.5}},
        ask | {"sampling": {"top_p": 0}},
        ask | {"sampling": {"top_k": -1}},
        ask | {"sampling": {"repetition_penalty": 2.1}},
        ask | {"sampling": {"max_new_tokens": 0}},
        ask | {"sampling": {"stop": ["x"] * 9}},
        ask | {"sampling": {"stop": ["x" * 65]}},
        ask | {"sampling": {"presence_penalty": 2.5}},
        ask | {"sampling": {"logit_bias": {"1": 101}}},
        ask | {"logprobs": 21},
        ask | {"format": {"type": "dance"}},
        ask | {"format": {"type": "choice", "choice": []}},
        ask | {"history": [{"question": "?"}]},
        {"type": "upload", "upload": 1},
        {"type": "upload", "upload": 1, "bytes": 2**53},
        {"type": "upload", "upload": 1, "bytes": 5, "sha256": "A" * 64},
        {"type": "ack"},
        {"type": "ack", "event": 1.5},
        {"type": "cancel", "request": ""},
        {"type": "dance"},
    ]
    for number, message in enumerate(wrong):
        assert not check.is_valid(message), message
        if message.get("request") == "r":
            message["request"] = f"r{number}"
        client.text(json.dumps(message))
        assert client.until("error")["code"] in ("bad_message", "bad_sampling", "bad_format", "unknown_type"), message
