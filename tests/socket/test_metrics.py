"""What `/metrics` counts: each question and each upload once, however it ends."""

import pytest

from watching import TALKATIVE, metrics, rise, wait_for


@pytest.fixture(scope="module")
def counted(serve):
    """A server of its own, whose answers are as long as they are asked to be."""
    server = serve(*TALKATIVE)
    server.wait_ready()
    return server


def test_answers_cut_by_the_end_of_their_session_are_counted(counted, connect):
    before = metrics(counted)
    client = connect(counted.ws)
    client.ask("a", "Tell me a story", sampling={"max_new_tokens": 2000})
    conversation = client.until("queued")["conversation"]
    client.ask("b", "And then?", conversation=conversation)
    client.until("token", lambda m: m["index"] == 5)
    client.close(1000)
    name = "glimpse_requests_total"
    wait_for(lambda: sum(rise(counted, before, name).values()) >= 2)
    assert rise(counted, before, name) == {name + '{outcome="cancelled"}': 2}
    assert rise(counted, before, "glimpse_completion_tokens_total")["glimpse_completion_tokens_total"] > 5
    answer = 'glimpse_stage_seconds_count{stage="answer"}'
    assert rise(counted, before, answer) == {answer: 1}


def test_an_upload_is_counted_once(counted, connect, scene):
    name = "glimpse_uploads_total"
    before = metrics(counted)
    client = connect(counted.ws)
    client.upload(1, scene()[:-4000])
    client.error("image_broken")
    assert rise(counted, before, name) == {name + '{outcome="image_broken"}': 1}
    client.image(2, scene())
    assert rise(counted, before, name + '{outcome="received"}') == {name + '{outcome="received"}': 1}
    client.upload(3, scene())
    client.until("image_ready", lambda m: m["cached"])
    client.send(type="upload", upload=4, bytes=10)
    client.send(type="cancel", upload=4)
    client.error("upload_cancelled")
    assert rise(counted, before, name) == {
        name + '{outcome="image_broken"}': 1,
        name + '{outcome="received"}': 2,
        name + '{outcome="upload_cancelled"}': 1,
    }


def test_questions_that_wait_are_counted_wherever_they_wait(counted, connect):
    waiting = lambda: metrics(counted)["glimpse_requests_waiting"]  # noqa: E731
    wait_for(lambda: waiting() == 0)
    client = connect(counted.ws)
    client.send(type="upload", upload=1, bytes=500)
    for request in range(3):
        client.ask(f"r{request}", "?", upload=1)
        conversation = client.until("queued")["conversation"]
    client.ask("more", "?", conversation=conversation)
    client.until("queued")
    assert waiting() == 4
    client.send(type="cancel", request="r0")
    client.done("r0")
    assert waiting() == 3
    client.close(1000)
    wait_for(lambda: waiting() == 0)
