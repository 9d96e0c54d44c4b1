"""`POST /tokenize` and `/detokenize`: text as the model counts it."""

import pytest

from asking import asked, picture, post

BEGINNING = ["[gMASK]", "<sop>"]


def tokenized(server, **body) -> dict:
    status, _, answer = post(server, body, path="/tokenize")
    assert status == 200, answer
    assert answer["count"] == len(answer["tokens"]) and answer["max_model_len"] > 0
    return answer


def detokenized(server, tokens: list[int]) -> str:
    status, _, answer = post(server, {"tokens": tokens}, path="/detokenize")
    assert status == 200, answer
    return answer["prompt"]


@pytest.mark.parametrize("text", ["How many circles are there?", "有几个圆？", "👋🏽 a\u0301\n\n\tb", "<|user|> is text", ""])
def test_a_text_comes_back(server, text):
    plain = tokenized(server, prompt=text, add_special_tokens=False)["tokens"]
    assert detokenized(server, plain) == text
    whole = tokenized(server, prompt=text, return_token_strs=True)
    assert whole["token_strs"][:2] == BEGINNING and whole["tokens"][2:] == plain
    assert detokenized(server, whole["tokens"]) == "".join(BEGINNING) + text


def test_a_conversation_is_counted_as_it_is_asked(server):
    """As many as the answer's usage tells, but for the picture, of which there are placeholders here."""
    question = "How many circles are there?"
    for messages in (
        [asked(question)],
        [{"role": "system", "content": "Be brief."}, asked(question)],
        [asked("你好"), {"role": "assistant", "content": "你好👋！"}, asked(question)],
        [asked(question, picture(3))],
    ):
        counted = tokenized(server, model="glimpse-demo", messages=messages)["count"]
        status, _, answer = post(server, {"messages": messages, "max_tokens": 1})
        assert status == 200, answer
        usage = answer["usage"]
        pictured = usage["prompt_tokens_details"]["image_tokens"]
        assert counted == usage["prompt_tokens"] - pictured + (3 if pictured else 0)


def test_what_is_wrong_is_told(server):
    for path, body, code in (
        ("/tokenize", {}, "bad_message"),
        ("/tokenize", {"prompt": 3}, "bad_message"),
        ("/tokenize", {"prompt": "x" * 2_200_000}, "text_too_long"),
        ("/tokenize", {"model": "gpt-4o", "prompt": "x"}, "model_not_found"),
        ("/detokenize", {"tokens": [4_000_000_000]}, "bad_message"),
        ("/detokenize", {"tokens": [-1]}, "bad_message"),
        ("/detokenize", {"tokens": [1] * 30_000}, "text_too_long"),
    ):
        status, _, answer = post(server, body, path=path)
        assert 400 <= status < 500 and answer["error"]["code"] == code, (path, answer)


def test_keys_are_asked_for_here_too(serve, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("a-good-key-of-24-letters\n")
    server = serve("--api-key-file", str(keys))
    server.wait_ready()
    for path, body in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [1]})):
        status, _, answer = post(server, body, path=path)
        assert (status, answer["error"]["code"]) == (401, "unauthorized")
        status, _, _ = post(server, body, {"Authorization": "Bearer a-good-key-of-24-letters"}, path=path)
        assert status == 200
