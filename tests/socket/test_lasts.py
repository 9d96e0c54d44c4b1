"""It lasts: long conversations and many of them, with no error and no growth."""

import pytest

from watching import resident

QUESTIONS = ("How many circles are there?", "What colour is the circle?", "图里有几个圆形？", "Is there a cat?")


@pytest.fixture(scope="module")
def alone(serve):
    """A server whose memory nobody else's tests move."""
    server = serve()
    server.wait_ready()
    return server


def test_a_hundred_rounds_of_one_conversation(alone, connect, scene):
    client = connect(alone.ws)
    image = client.image(1, scene(3))
    conversation, cached, first, early = {}, 0, {}, 0
    for round in range(100):
        question = QUESTIONS[round % len(QUESTIONS)]
        client.ask(f"r{round}", question, image=image, **conversation)
        done = client.done(f"r{round}")
        assert done["finish_reason"] == "stop"
        # Only what is new was computed.
        assert done["usage"]["cached_tokens"] > cached, round
        cached = done["usage"]["cached_tokens"]
        conversation = {"conversation": done["conversation"]}
        first.setdefault(question, client.answer(f"r{round}"))
        if round >= 96:
            assert client.answer(f"r{round}") == first[question], round
        if round == 9:
            early = resident(alone)
        client.send(type="ack", event=client.last_event)
    assert first[QUESTIONS[0]] == "3"
    assert resident(alone) <= early * 1.03


@pytest.mark.parametrize("rounds", [10, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_many_conversations_over_twenty_sessions(alone, connect, scene, rounds):
    """Two hundred, or a thousand."""
    clients = [connect(alone.ws) for _ in range(20)]
    early, asked = 0, 0
    for round in range(rounds):
        for number, client in enumerate(clients):
            if round % 4 == 0:
                # Another picture every four conversations; the last one goes.
                if round:
                    client.send(type="forget", image=client.picture)
                    client.until("forgotten")
                count = 1 + (number + round // 4) % 5
                client.picture = client.image(round + 1, scene(count, size=(320, 240 + number)))
            client.ask(f"r{round}", QUESTIONS[round % len(QUESTIONS)], image=client.picture)
        for client in clients:
            assert client.done(f"r{round}")["finish_reason"] == "stop"
            assert client.answer(f"r{round}")
            client.send(type="ack", event=client.last_event)
            asked += 1
        if round == 4:
            early = resident(alone)
    assert asked == 20 * rounds
    assert resident(alone) <= early * 1.03
