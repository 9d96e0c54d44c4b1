"""`POST /v1/responses`, by OpenAI's own client."""

import json

import openai
import pytest

from asking import picture, shown

QUESTION = "How many circles are there?"
GREEDY = {"model": "glimpse-demo", "temperature": 0}


def asked(text: str, *files: bytes) -> dict:
    pictures = [{"type": "input_image", "image_url": shown(file)["image_url"]["url"], "detail": "auto"} for file in files]
    return {"role": "user", "content": [*pictures, {"type": "input_text", "text": text}]}


def test_a_picture_in_words_out(api):
    response = api.responses.create(input=[asked(QUESTION, picture(3))], **GREEDY)
    assert response.status == "completed" and "3" in response.output_text
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    # What it said can be sent back as it came.
    again = [asked(QUESTION, picture(3)), *response.output, asked("What colour are they?")]
    second = api.responses.create(input=again, **GREEDY)
    assert second.usage.input_tokens_details.cached_tokens >= response.usage.input_tokens
    text = api.responses.create(input="Hello?", instructions="Be brief.", max_output_tokens=2, **GREEDY)
    assert text.status == "incomplete" and text.incomplete_details.reason == "max_output_tokens"
    assert text.instructions == "Be brief."


def test_a_stream_tells_each_step(api):
    whole = api.responses.create(input=[asked(QUESTION, picture(4))], **GREEDY)
    events = list(api.responses.create(input=[asked(QUESTION, picture(4))], stream=True, **GREEDY))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    begin = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    end = ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert kinds[:4] == begin and kinds[-4:] == end
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert "".join(event.delta for event in events[4:-4]) == whole.output_text == events[-4].text
    assert events[-1].response.output_text == whole.output_text
    with api.responses.stream(input=[asked(QUESTION, picture(4))], **GREEDY) as stream:
        assert stream.get_final_response().output_text == whole.output_text


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_needs_state_or_tools_is_named(api, options, param):
    with pytest.raises(openai.BadRequestError) as refused:
        api.responses.create(input="Hello?", **options, **GREEDY)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)


def test_the_format_of_the_answer(api):
    schema = {
        "type": "object",
        "properties": {"circles": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["circles"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "count", "strict": True, "schema": schema}}
    response = api.responses.create(input=[asked(QUESTION, picture(3))], text=form, **GREEDY)
    assert isinstance(json.loads(response.output_text)["circles"], int)
