"""`/openapi.json` says what the server does."""

import http.client
import json

import jsonschema
import pytest

from asking import asked, picture

MESSAGES = [asked("How many circles are there?", picture(3))]


@pytest.fixture(scope="module")
def document(server):
    return fetch(server, "GET", "/openapi.json")[1]


def fetch(server, method: str, path: str, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        return answer.status, [json.loads(line) for line in lines if line != "[DONE]"]
    return answer.status, json.loads(text)


def holds(document, schema: dict, value) -> None:
    """The value is as a schema of the document has it."""
    whole = schema | {"components": document["components"]}
    jsonschema.Draft202012Validator.check_schema(whole)
    jsonschema.Draft202012Validator(whole).validate(value)


def schema_of(document, path: str, method: str, status: str, kind: str = "application/json") -> dict:
    return document["paths"][path][method]["responses"][status]["content"][kind]["schema"]


def test_each_answer_is_as_the_document_has_it(server, document):
    chat = "/v1/chat/completions"
    request = document["paths"][chat]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for options in ({}, {"n": 2, "logprobs": True, "top_logprobs": 2}, {"max_tokens": 1}):
        body = {"messages": MESSAGES, "temperature": 0} | options
        holds(document, request, body)
        status, answer = fetch(server, "POST", chat, body)
        assert status == 200
        holds(document, schema_of(document, chat, "post", "200"), answer)
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        _, chunks = fetch(server, "POST", chat, body | stream)
        for chunk in chunks:
            holds(document, schema_of(document, chat, "post", "200", "text/event-stream"), chunk)
    for path, body in (("/tokenize", {"prompt": "Hi", "return_token_strs": True}), ("/detokenize", {"tokens": [1, 2]})):
        holds(document, document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"], body)
        status, answer = fetch(server, "POST", path, body)
        assert status == 200
        holds(document, schema_of(document, path, "post", "200"), answer)
    for path in ("/v1/models", "/v1/models/{model}", "/health", "/version"):
        status, answer = fetch(server, "GET", path.replace("{model}", "glimpse-demo"))
        assert status == 200
        holds(document, schema_of(document, path, "get", "200"), answer)


def test_each_refusal_too(server, document):
    for method, path, body in (
        ("POST", "/v1/chat/completions", {"messages": []}),
        ("POST", "/v1/responses", {"input": 3}),
        ("GET", "/v1/models/other", None),
        ("GET", "/v1/nothing", None),
    ):
        status, answer = fetch(server, method, path, body)
        assert 400 <= status < 500
        holds(document, schema_of(document, "/v1/models", "get", "default"), answer)


def test_every_path_is_there(server, document):
    for path, methods in document["paths"].items():
        for method in methods:
            status, _ = fetch(server, method.upper(), path.replace("{model}", "glimpse-demo"), {} if method == "post" else None)
            assert status != 404, path


def test_another_method_is_told_which_there_is(server, document):
    for path, methods in document["paths"].items():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("DELETE", path.replace("{model}", "glimpse-demo"))
        answer = connection.getresponse()
        allowed = answer.headers["Allow"].lower().split(", ")
        assert answer.status == 405 and set(methods) <= set(allowed), (path, answer.status, allowed)
