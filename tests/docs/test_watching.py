"""What deploy/ has for whoever watches and scales a fleet asks for what a fleet tells."""

import json
import re
import urllib.request
from itertools import combinations
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from fleets import Fleet
from watching import PATIENCE, TALKATIVE, metrics, wait_for

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
BOARD = json.loads((DEPLOY / "grafana" / "fleet.json").read_text())
SCALING, ADAPTER = (yaml.safe_load((DEPLOY / "autoscale" / name).read_text()) for name in ("workers.yaml", "prometheus-adapter.yaml"))


def named(text):
    return set(re.findall(r"\b(?:glimpse|process)_\w+", text))


def ask(gateway):
    """Has a few words said."""
    with urllib.request.urlopen(f"{gateway.url}/v1/models", timeout=PATIENCE) as answer:
        model = json.load(answer)["data"][0]["id"]
    question = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello?"}]}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions", json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert json.load(answer)["choices"]


@pytest.fixture(scope="module")
def told(binary, tmp_path_factory):
    """Every sample of a gateway's `/metrics`, with a worker there that has computed."""
    fleet = Fleet(binary, tmp_path_factory.mktemp("fleet"))
    try:
        fleet.serve_nats()
        fleet.worker("one", *TALKATIVE)
        gateway = fleet.gateway()
        passes = 'glimpse_worker_passes_total{device="0",kind="decode",worker="one"}'
        ask(gateway)
        # By the next heartbeat.
        wait_for(lambda: {passes, "glimpse_picture_store_size_bytes"} <= metrics(gateway).keys())
        yield metrics(gateway)
    finally:
        fleet.end()


def test_the_board_asks_for_what_a_gateway_tells(told):
    known = {name.split("{")[0] for name in told}
    asked = {target["expr"] for panel in BOARD["panels"] for target in panel["targets"]}
    asked |= {variable["query"] for variable in BOARD["templating"]["list"]}
    names = set().union(*map(named, asked))
    assert len(names) > 15
    assert names - known == set()
    # By labels that the metric has.
    for expression in asked:
        for name, within in re.findall(r"(glimpse_\w+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)\s*!?=", within)) - {"instance"}
            has = {label for sample in told if sample.startswith(name + "{") for label in re.findall(r"(\w+)=", sample)}
            assert labels <= has, (name, labels)


def test_the_board_is_one():
    assert BOARD["schemaVersion"] >= 36 and BOARD["title"] and BOARD["uid"]
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries") and panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references)
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["y"] >= 0 and 0 < place["w"] <= 24 - place["x"] and place["h"] > 0
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart = (one[axis] + one[size] <= other[axis] or other[axis] + other[size] <= one[axis] for axis, size in ("xw", "yh"))
        assert any(apart), (one, other)


def test_workers_are_scaled_by_what_a_gateway_tells(told):
    kubernetes_validate.validate(SCALING, "1.31", strict=True)
    target = SCALING["spec"]["scaleTargetRef"]
    worker = next(yaml.safe_load_all((DEPLOY / "kubernetes" / "worker.yaml").read_text()))
    assert (target["kind"], target["name"]) == (worker["kind"], worker["metadata"]["name"])
    (metric,) = SCALING["spec"]["metrics"]
    (rule,) = ADAPTER["rules"]["external"]
    names = {metric["external"]["metric"]["name"], rule["seriesQuery"], *named(rule["metricsQuery"])}
    assert names == {"glimpse_queue_wait_seconds"} and names <= told.keys()
