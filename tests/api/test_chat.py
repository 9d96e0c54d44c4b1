"""`POST /v1/chat/completions`, by OpenAI's own client."""

import base64
import http.client
import io
import json
import random
import re
import socket

import openai
import pytest
from PIL import Image

from asking import asked, client, picture, post, shown
from watching import TALKATIVE, metrics, wait_for

QUESTION = "How many circles are there?"
GREEDY = {"model": "glimpse-demo", "temperature": 0}


def refusal(error: openai.APIStatusError) -> tuple:
    return error.status_code, error.body["code"], error.body["param"]


def test_the_model_has_a_name(api):
    (model,) = api.models.list()
    assert model.id == "glimpse-demo" and model.max_model_len > 0
    assert model.input_modalities == ["text", "image"]
    assert api.models.retrieve("glimpse-demo").id == "glimpse-demo"
    with pytest.raises(openai.NotFoundError) as unknown:
        api.chat.completions.create(model="gpt-4o", messages=[asked("Hello?")])
    assert refusal(unknown.value) == (404, "model_not_found", "model")


def test_a_picture_in_words_out(api):
    answer = api.chat.completions.create(messages=[asked(QUESTION, picture(3))], **GREEDY)
    (choice,) = answer.choices
    assert "3" in choice.message.content and choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens > usage.prompt_tokens_details.image_tokens > 0


def test_a_stream_says_the_same(api):
    messages = [asked("What colour are they?", picture(4, "blue"))]
    whole = api.chat.completions.create(messages=messages, **GREEDY)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(api.chat.completions.create(messages=messages, **options, **GREEDY))
    assert len({chunk.id for chunk in chunks}) == 1
    *said, end = chunks
    assert said[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in said) == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in said]
    assert reasons == [None] * (len(said) - 1) + ["stop"]
    assert end.choices == [] and end.usage.completion_tokens == whole.usage.completion_tokens
    without = list(api.chat.completions.create(messages=messages, stream=True, **GREEDY))
    assert all(chunk.usage is None for chunk in without)


def test_a_conversation_goes_on_where_it_was(api):
    """All of it comes with each request, and only what is new is computed."""
    messages = [asked(QUESTION, picture(5))]
    first = api.chat.completions.create(messages=messages, **GREEDY)
    # Many clients trim what they show.
    messages.append({"role": "assistant", "content": first.choices[0].message.content.strip()})
    messages.append({"role": "user", "content": "What colour are they?"})
    second = api.chat.completions.create(messages=messages, **GREEDY)
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens + first.usage.completion_tokens - 1
    assert second.usage.prompt_tokens > cached
    # Regenerated, it is the same question after the same turns.
    again = api.chat.completions.create(messages=messages, **GREEDY)
    assert again.choices[0].message.content == second.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1


def test_the_same_picture_resent_is_one(api):
    file = picture(2)
    messages = [asked(QUESTION, file), {"role": "assistant", "content": "2"}, asked("And now?", file)]
    answer = api.chat.completions.create(messages=messages, **GREEDY)
    assert answer.usage.prompt_tokens_details.image_tokens > 0
    messages[2] = asked("And now?", picture(1))
    with pytest.raises(openai.BadRequestError) as other:
        api.chat.completions.create(messages=messages, **GREEDY)
    assert refusal(other.value) == (400, "conversation_has_image", "messages[2].content[0]")
    assert "--earlier-pictures" in other.value.message


def test_several_answers_at_once(api):
    options = {"n": 3, "seed": 5, "temperature": 1.2, "max_tokens": 12, "model": "glimpse-demo"}
    answer = api.chat.completions.create(messages=[asked("Tell me about it.", picture(3))], **options)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)
    streamed = {0: "", 1: "", 2: ""}
    for chunk in api.chat.completions.create(messages=[asked("Tell me about it.", picture(3))], stream=True, **options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == {choice.index: choice.message.content for choice in answer.choices}


def test_length_and_stop_end_an_answer(api):
    messages = [asked("Describe the picture.", picture(3))]
    whole = api.chat.completions.create(messages=messages, **GREEDY).choices[0].message.content
    cut = api.chat.completions.create(messages=messages, max_completion_tokens=2, **GREEDY)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 2
    assert whole.startswith(cut.choices[0].message.content)
    word = whole.split()[-1]
    stopped = api.chat.completions.create(messages=messages, stop=word, **GREEDY).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == whole[: whole.index(word)]


def test_a_system_turn_is_part_of_the_prompt(api):
    question = [asked(QUESTION, picture(3))]
    without = api.chat.completions.create(messages=question, **GREEDY).usage
    system = [{"role": "system", "content": "Answer in one word."}]
    behind = api.chat.completions.create(messages=system + question, **GREEDY).usage
    assert behind.prompt_tokens > without.prompt_tokens
    again = api.chat.completions.create(messages=system + question, **GREEDY).usage
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1


def test_a_picture_stands_in_its_message(api):
    file = picture(3)
    messages = [asked("Hello?"), {"role": "assistant", "content": "Hello!"}, asked(QUESTION, file)]
    later = api.chat.completions.create(messages=messages, **GREEDY)
    assert later.usage.prompt_tokens_details.image_tokens > 0
    messages = [asked("Hello?", file), {"role": "assistant", "content": "Hello!"}, asked(QUESTION)]
    first = api.chat.completions.create(messages=messages, **GREEDY)
    # The same tokens in another order.
    assert later.usage.prompt_tokens == first.usage.prompt_tokens


def test_log_probabilities(api):
    options = {"logprobs": True, "top_logprobs": 3, **GREEDY}
    messages = [asked("Describe the picture.", picture(3))]
    choice = api.chat.completions.create(messages=messages, **options).choices[0]
    tokens = choice.logprobs.content
    said = b"".join(bytes(token.bytes) for token in tokens).decode()
    assert said.strip() == choice.message.content.strip()
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        # Greedy: the likeliest was taken.
        assert token.top_logprobs[0].bytes == token.bytes
    pieces = api.chat.completions.create(messages=messages, stream=True, **options)
    streamed = [t for chunk in pieces for c in chunk.choices if c.logprobs for t in c.logprobs.content]
    assert [t.bytes for t in streamed] == [t.bytes for t in tokens]
    with pytest.raises(openai.BadRequestError) as alone:
        api.chat.completions.create(messages=messages, top_logprobs=3, **GREEDY)
    assert refusal(alone.value) == (400, "bad_sampling", "top_logprobs")


def test_penalties_and_biases_change_the_answer(api):
    messages = [asked("Describe the picture.", picture(3))]
    plain = api.chat.completions.create(messages=messages, **GREEDY).choices[0].message.content
    biased = api.chat.completions.create(messages=messages, logit_bias={"198": 100}, max_tokens=5, **GREEDY)
    assert biased.choices[0].message.content != plain
    with pytest.raises(openai.BadRequestError) as wrong:
        api.chat.completions.create(messages=messages, presence_penalty=3, **GREEDY)
    assert wrong.value.body["code"] == "bad_sampling"


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ({"response_format": {"type": "json_object"}}, lambda text: isinstance(json.loads(text), dict)),
        ({"extra_body": {"guided_choice": ["yes", "no"]}}, lambda text: text in ("yes", "no")),
        ({"extra_body": {"structured_outputs": {"regex": "[0-9]{3}-[0-9]{2}"}}}, lambda text: re.fullmatch(r"\d{3}-\d\d", text)),
        ({"extra_body": {"structured_outputs": {"grammar": 'start: "a" | "b"'}}}, lambda text: text in ("a", "b")),
    ],
)
def test_an_answer_has_the_format_that_was_asked_for(api, options, holds):
    """Or begins like one that has it."""
    messages = [asked("What is in the picture?", picture(3))]
    (choice,) = api.chat.completions.create(messages=messages, max_tokens=300, **options, **GREEDY).choices
    assert choice.finish_reason == "length" or holds(choice.message.content.strip()), choice


def test_a_format_that_is_none_is_refused(api):
    for form in ({"structured_outputs": {"regex": "["}}, {"guided_json": {"type": "nonsense"}}, {"structured_outputs": {"xml": "a"}}):
        with pytest.raises(openai.BadRequestError) as refused:
            api.chat.completions.create(messages=[asked("Hello?")], extra_body=form, **GREEDY)
        assert refused.value.body["code"] == "bad_format"


def test_what_changes_nothing_passes(api):
    neutral = {
        "tools": [],
        "tool_choice": "auto",
        "modalities": ["text"],
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "store": False,
        "metadata": {"a": "b"},
        "reasoning_effort": "low",
        "user": "me",
        "logprobs": False,
        "presence_penalty": 0,
        "extra_body": {"top_k": -1, "repetition_penalty": 1.0, "min_p": 0.0, "made_up": [1]},
    }
    assert api.chat.completions.create(messages=[asked("Hello?")], **neutral, **GREEDY).choices


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"extra_body": {"min_p": 0.5}}, "min_p"),
        ({"extra_body": {"ignore_eos": True}}, "ignore_eos"),
    ],
)
def test_what_cannot_be_done_is_named(api, options, param):
    with pytest.raises(openai.BadRequestError) as refused:
        api.chat.completions.create(messages=[asked("Hello?")], **options, **GREEDY)
    assert refusal(refused.value) == (400, "unsupported_parameter", param)


@pytest.mark.parametrize(
    ("messages", "code", "param"),
    [
        ([asked("What?", b"no picture")], "image_unsupported", None),
        ([asked("What?", picture()[:2000])], "image_broken", None),
        ([{"role": "user", "content": [shown(b""), {"type": "text", "text": "?"}]}], "bad_message", "messages[0].content[0]"),
        ([{"role": "user", "content": "  "}], "empty_text", None),
        ([{"role": "user", "content": 7}], "bad_message", "messages[0].content"),
        ([], "bad_message", "messages"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}],
            "image_not_fetched",
            "messages[0].content[0]",
        ),
    ],
)
def test_what_is_wrong_with_a_message_is_said(server, messages, code, param):
    status, _, body = post(server, {"messages": messages})
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, code, param), body


def test_base64_may_have_line_ends_and_no_padding(server):
    file = picture(3)
    lines = base64.encodebytes(file).decode().rstrip("\n=")
    url = f"DATA:image/jpeg;base64,{lines}"
    body = {"temperature": 0, "messages": [asked(QUESTION)]}
    body["messages"][0]["content"].insert(0, {"type": "image_url", "image_url": url})
    status, headers, answer = post(server, body)
    assert status == 200 and "3" in answer["choices"][0]["message"]["content"]
    assert "prefill;dur=" in headers["Server-Timing"] and headers["x-request-id"]


def test_bodies_and_paths_that_are_none_are_answered_in_kind(server):
    for path, status, code in (("/v1/chat/completions", 400, "bad_json"), ("/v1/embeddings", 404, "not_found")):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", path, "{")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (status, code)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/v1/chat/completions")
    assert connection.getresponse().status == 405


def test_too_large_a_body_is_refused_by_its_length(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "upload_too_large")


def test_a_client_that_goes_frees_its_slot(serve):
    """Whether it streams or not, and whether it closes or only stops sending."""
    server = serve(*TALKATIVE, "--max-new-tokens", "100000")
    server.wait_ready()
    for stream in (False, True):
        for half in (False, True):
            body = {"messages": [asked("Go on for ever.")], "max_tokens": 5000, "stream": stream, "temperature": 0}
            data = json.dumps(body).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            before = metrics(server)['glimpse_requests_total{outcome="cancelled"}']
            with socket.create_connection(("127.0.0.1", server.port)) as gone:
                gone.sendall(head.encode() + data)
                wait_for(lambda: metrics(server)["glimpse_requests_running"] == 1)
                if half:
                    gone.shutdown(socket.SHUT_WR)
                    wait_for(lambda: metrics(server)["glimpse_requests_running"] == 0)
            wait_for(lambda: metrics(server)["glimpse_requests_running"] == 0)
            wait_for(lambda: metrics(server)['glimpse_requests_total{outcome="cancelled"}'] == before + 1)


def test_keys_are_asked_for(serve, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("a-good-key-of-24-letters asks=2\n")
    server = serve("--api-key-file", str(keys))
    server.wait_ready()
    status, headers, body = post(server, {"messages": [asked("Hello?")]})
    assert (status, body["error"]["code"]) == (401, "unauthorized")
    assert headers["WWW-Authenticate"].startswith("Bearer")
    with client(server) as without, pytest.raises(openai.AuthenticationError):
        without.models.list()
    with client(server, "wrong") as wrong, pytest.raises(openai.AuthenticationError):
        wrong.chat.completions.create(messages=[asked("Hello?")], **GREEDY)
    with client(server, "a-good-key-of-24-letters") as good:
        for _ in range(2):
            assert good.chat.completions.create(messages=[asked("Hello?")], **GREEDY).choices
        with pytest.raises(openai.RateLimitError) as limited:
            good.chat.completions.create(messages=[asked("Hello?")], **GREEDY)
        assert limited.value.body["code"] == "rate_limited"
        assert int(limited.value.response.headers["Retry-After"]) >= 1
    # Under a name that is not this server's only a key lets in.
    foreign = {"Host": "elsewhere.example"}
    status, _, body = post(server, {"messages": []}, foreign)
    assert (status, body["error"]["code"]) == (403, "forbidden") and "--allow-host" in body["error"]["message"]
    status, _, body = post(server, {"messages": []}, foreign | {"Authorization": "Bearer a-good-key-of-24-letters"})
    assert (status, body["error"]["param"]) == (400, "messages")


def test_pages_of_allowed_origins_may_ask(serve):
    server = serve("--allow-origin", "https://chat.example")
    server.wait_ready()
    ours, other = {"Origin": "https://chat.example"}, {"Origin": "https://evil.example"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    connection.request("OPTIONS", "/v1/chat/completions", headers=ours | asks)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "https://chat.example"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    status, headers, _ = post(server, {"messages": [asked("Hello?")]}, ours)
    assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://chat.example"
    status, headers, body = post(server, {"messages": [asked("Hello?")]}, other)
    assert (status, body["error"]["code"]) == (403, "forbidden")
    assert "Access-Control-Allow-Origin" not in headers


def test_big_pictures_come_whole(server):
    """A body of megabytes arrives faster than anybody can ask for it, on one connection after another."""
    noise = Image.frombytes("RGB", (900, 700), random.Random(1).randbytes(900 * 700 * 3))
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=95)
    for _ in range(8):
        status, _, body = post(server, {"messages": [asked("What is it?", out.getvalue())], "max_tokens": 1})
        assert status == 200, body


def test_text_alone_gives_way_to_a_picture(serve):
    """A title in the making leaves the only slot to a question that somebody waits for, and goes on behind it."""
    server = serve(*TALKATIVE, "--max-batch", "1", "--max-new-tokens", "100000")
    server.wait_ready()
    with client(server) as api:
        options = {"model": "random-1", "temperature": 0}
        title = api.chat.completions.create(messages=[asked("A title, please.")], max_tokens=20_000, stream=True, **options)
        chunks = iter(title)
        for _ in range(3):
            next(chunks)
        answer = api.chat.completions.create(messages=[asked(QUESTION, picture(3))], max_tokens=3, **options)
        assert answer.usage.completion_tokens == 3
        # It was not over.
        assert all(next(chunks).choices[0].finish_reason is None for _ in range(3))
        title.close()
