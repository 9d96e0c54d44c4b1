"""One trace from a client's own span over its gateway to the card, whichever process something happens in."""

import pytest
from collector import ROOT, Collector
from fleets import finished
from watching import PATIENCE, TALKATIVE, wait_for

GATEWAY, WORKER = "glimpse-gateway", "glimpse-worker"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector(monkeypatch):
    # Spans come as they end, not some seconds later.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    with Collector() as collector:
        yield collector


def only(collector, service, name, trace, **attributes):
    """The one span of this name in a trace, once it has ended."""
    found = wait_for(lambda: [it for it in collector.of(service, name, **attributes) if it.trace == trace])
    assert len(found) == 1, found
    return found[0]


def assert_stages(collector, service, whole, stages):
    """That these are a span's parts, one behind the other."""
    parts = [next(it for it in collector.of(service, name) if it.parent == whole.id) for name in stages]
    assert {part.trace for part in parts} == {whole.trace}
    # The next begins a moment before the one before it is over.
    starts = [whole.start, *(part.start for part in parts)]
    ends = [*(part.end for part in parts), whole.end]
    assert (starts, ends) == (sorted(starts), sorted(ends))


def test_a_question_and_its_picture_are_one_trace_each_over_both_processes(fleet, connect, scene, collector):
    fleet.serve_nats()
    flags = ("--otlp-endpoint", collector.url)
    fleet.worker("one", *TALKATIVE, *flags)
    gateway = fleet.gateway(*flags)
    client = connect(gateway.ws)
    image = client.image(1, scene())
    client.ask("a", "What is in it?", image=image, sampling={"max_new_tokens": 20}, traceparent=f"00-{TRACE}-{PARENT}-01")
    done = client.done("a")

    request = only(collector, GATEWAY, "request", TRACE)
    assert request.parent == PARENT
    compute = only(collector, WORKER, "compute", TRACE)
    assert compute.parent == request.id
    assert_stages(collector, GATEWAY, request, ["queue", "prefill", "decode"])
    assert_stages(collector, WORKER, compute, ["queue", "prefill", "decode"])
    assert compute.attributes["worker"] == "one"
    assert compute.attributes["completion_tokens"] == done["usage"]["completion_tokens"]

    # A picture is nobody's part: it begins a trace.
    (picture,) = wait_for(lambda: collector.of(GATEWAY, "picture"))
    assert picture.parent == ROOT and picture.trace != TRACE
    encode = only(collector, GATEWAY, "encode", picture.trace)
    look = only(collector, WORKER, "look", picture.trace)
    assert (encode.parent, look.parent) == (picture.id, encode.id)
    wait_for(lambda: len([it for it in collector.spans if it.parent == look.id]) == 3)
    parts = {it.name: it for it in collector.spans if it.parent == look.id}
    assert parts["queue"].end <= parts["vision"].start and parts["vision"].end <= parts["prefill"].start
    assert parts["vision"].trace == picture.trace
    # Nothing of what was said.
    said = repr(collector.spans)
    assert "What is in it" not in said and client.answer("a") not in said and client.session not in said


def test_an_answer_that_moved_stays_in_its_trace(fleet, connect, scene, collector):
    fleet.serve_nats()
    flags = ("--otlp-endpoint", collector.url)
    workers = {name: fleet.worker(name, *TALKATIVE, *flags) for name in ("one", "two")}
    gateway = fleet.gateway(*flags)
    client = connect(gateway.ws)
    image = client.image(1, scene())
    # Where the picture is, its questions are answered.
    (first,) = wait_for(lambda: collector.of(WORKER, "look"))
    home = first.attributes["worker"]
    (other,) = workers.keys() - {home}
    # Long enough that nobody has said it all before the kill.
    long = {"sampling": {"max_new_tokens": 1500}}
    client.ask("a", "What is in it?", image=image, traceparent=f"00-{TRACE}-{PARENT}-01", **long)
    while len([m for m in client.of("a") if m["type"] == "token"]) < 5:
        client.recv(PATIENCE)
    workers[home].kill()
    finished(client)
    assert client.moving == ["a"]

    request = only(collector, GATEWAY, "request", TRACE)
    # What the lost one was at died with it.
    compute = only(collector, WORKER, "compute", TRACE)
    assert (request.parent, compute.parent) == (PARENT, request.id)
    assert compute.attributes["worker"] == other
    assert compute.attributes["attempt"] > 0 and compute.attributes["tokens_before"] >= 5
    assert_stages(collector, WORKER, compute, ["queue", "prefill", "decode"])
    # The picture was looked at by both, as a part of the same.
    again = only(collector, WORKER, "look", first.trace, worker=other)
    encode = only(collector, GATEWAY, "encode", first.trace)
    assert {first.parent, again.parent} == {encode.id}
