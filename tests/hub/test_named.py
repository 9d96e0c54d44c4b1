"""A model's name stands wherever a folder may: it is fetched once, and taken from the cache from then on."""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import websockets.sync.client

from caches import NAME, ROOT, SHARDS, checkpoint
from stand_in import Model, changed
from watching import wait_for

ASK = ("--prompt", "1", "--greedy", "--max-new-tokens", "2", "--device", "cpu", "--json")


def test_a_name_is_fetched_once_and_answers(machine, world):
    first = machine.glimpse("generate", "--model", NAME, *ASK)
    assert first.code == 0, first.err
    world.asked.clear()
    again = machine.glimpse("generate", "--model", NAME, *ASK)
    assert not world.asked
    ids = [[token["id"] for token in json.loads(result.out)["tokens"]] for result in (first, again)]
    assert ids[0] == ids[1]


def test_a_server_is_called_by_the_name(machine):
    server = machine.start("serve", "--model", NAME, "--device", "cpu", "--listen", "127.0.0.1:0")
    try:
        line = server.stdout.readline()
        address = line.split()[-1]
        assert address.startswith("http://"), line + server.stderr.read()
        with urllib.request.urlopen(f"{address}/v1/models", timeout=60) as answer:
            [model] = json.load(answer)["data"]
        assert model["id"] == NAME
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def test_every_command_takes_a_name(machine, world, tmp_path):
    inspected = machine.glimpse("inspect", "--model", NAME, "--json")
    assert inspected.code == 0, inspected.err
    assert json.loads(inspected.out)["name"] == NAME
    world.asked.clear()
    quantized = machine.glimpse("quantize", "--model", NAME, "--quantize", "q8", "--out", str(tmp_path / "q8"))
    assert quantized.code == 0 and not world.asked, quantized.err
    assert machine.glimpse("inspect", "--model", str(tmp_path / "q8")).code == 0


def hub_line(result):
    [line] = [line for line in result.out.splitlines() if "the hub's files:" in line]
    return line


def test_check_compares_each_file_with_the_hubs(machine, world):
    check = ("check", "--model", NAME, "--device", "cpu")
    assert machine.pull().code == 0
    result = machine.glimpse(*check)
    assert result.code == 0 and "must   ok " in hub_line(result), result.out + result.err
    # The branch moves on; what is compared is the commit that the cache has.
    world.models[NAME].branches = {"main": checkpoint("one-group-f32")} | {"old": checkpoint()}
    assert "must   ok " in hub_line(machine.glimpse(*check))
    # Of the right form, and other bytes than the hub's.
    blob = machine.cache / "models--zai-org--glm-4v-9b/blobs" / checkpoint().etag(SHARDS[1])
    blob.write_bytes(changed(blob.read_bytes()))
    result = machine.glimpse(*check)
    assert result.code == 1 and f"{SHARDS[1]} differ" in hub_line(result) and "glimpse pull" in hub_line(result)
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "nonsense"}):
        line = hub_line(machine.glimpse(*check, **offline))
        assert "not compared" in line and "must" not in line


def test_a_folder_is_not_compared_with_any_hub(machine, world):
    folder = str(ROOT / "tests/data/checkpoints/two-groups-bf16")
    assert "not compared" in hub_line(machine.glimpse("check", "--model", folder, "--device", "cpu"))
    assert not world.asked


def test_what_is_neither_a_folder_nor_a_model_is_told_as_both(machine):
    result = machine.glimpse("generate", "--model", "no/such", *ASK)
    assert result.code == 1
    assert "no folder no/such" in result.err and "check the name" in result.err


@contextmanager
def serving(machine, **more):
    """A server of the name, and its address."""
    server = machine.start("serve", "--model", NAME, "--device", "cpu", "--listen", "127.0.0.1:0", "--log", "info", **more)
    # What it logs must not fill the pipe.
    said = []
    threading.Thread(target=lambda: said.extend(server.stderr), daemon=True).start()
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on http://"), line + "".join(said)
        yield server, line.split()[-1], said
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


def stands(address):
    """How the server says that it stands."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as not_ready:
        return json.load(not_ready)


def wait_until(address, true):
    deadline = time.monotonic() + 300
    while not true(now := stands(address)):
        assert time.monotonic() < deadline, now
        time.sleep(0.02)
    return now


def wait_for_half_of_the_last(machine, address):
    """Until all has come but half of the last shard, which stands still; what the server says then."""
    rest = len(checkpoint().files[SHARDS[-1]]) - len(checkpoint().files[SHARDS[-1]]) // 2

    def stands_still(now):
        told = now["download"]
        # The others are whole, too: one that has all its bytes is still checked, and put in its place.
        return told and told["total"] - told["bytes"] == rest and len(machine.incomplete()) == 1

    return wait_until(address, stands_still)


def answer(address):
    asked = {"model": NAME, "messages": [{"role": "user", "content": "1"}], "temperature": 0, "max_tokens": 2}
    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def test_the_page_is_up_and_shards_are_loaded_while_others_come(machine, other_machine, world):
    # The last is the one that stands still in the middle.
    world.stall, world.stalls, world.stalls_of = threading.Event(), 1, SHARDS[-1]
    size = {name: len(checkpoint().files[name]) for name in SHARDS}
    with serving(machine, HF_HUB_DOWNLOAD_TIMEOUT="600") as (_, address, said):
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"<html" in page.read()
        came = wait_for_half_of_the_last(machine, address)
        assert came["state"] == "loading" and came["model"] == NAME and came["error"] is None
        assert came["download"]["bytes_per_second"] >= 0 and "error" not in came["download"]
        # What the first two hold is on the device, and nothing that only the last one holds.
        weights = sum(size.values())
        wait_until(address, lambda now: now["progress"] and 0.5 < now["progress"] < 1 - size[SHARDS[-1]] / weights + 0.05)
        with websockets.sync.client.connect(address.replace("http", "ws") + "/ws", subprotocols=["glimpse.v1"]) as socket:
            welcome = json.loads(socket.recv())
            assert welcome["type"] == "welcome" and welcome["state"] == "loading"
            assert welcome["model"]["name"] == NAME and welcome["model"]["image_size"] > 0
            status = json.loads(socket.recv())
            assert status["type"] == "status" and status["download"]["total"] == came["download"]["total"]
            world.stall.set()
            while status.get("state") != "ready":
                status = json.loads(socket.recv())
            assert "download" not in status
        answered = answer(address)
        # By a thread of the test's own, which has its turn when it has it.
        wait_for(lambda: any("is whole" in line for line in said))
    generated = other_machine.glimpse("generate", "--model", NAME, "--prompt", "1", "--greedy", "--max-new-tokens", "2", "--device", "cpu")
    assert answered == generated.out.strip()


def test_a_download_that_fails_is_told_everywhere_and_gone_on_with(machine, world):
    world.stall, world.stalls, world.stalls_of = threading.Event(), 1, SHARDS[-1]
    with serving(machine, HF_HUB_DOWNLOAD_TIMEOUT="600") as (_, address, said):
        wait_for_half_of_the_last(machine, address)
        # From now on the hub has nothing for anybody.
        world.refusals["/resolve/"] = [(404, {"X-Error-Code": "EntryNotFound"})] * 1000
        world.stall.set()
        failed = wait_until(address, lambda now: now["state"] == "failed")
        assert failed["download"]["error"] == "not_found"
        assert "[not_found]" in failed["error"] and "the next start goes on" in failed["error"]
        wait_for(lambda: any("[not_found]" in line for line in said))
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"<html" in page.read()
    world.refusals.clear()
    world.asked.clear()
    with serving(machine) as (_, address, _):
        wait_until(address, lambda now: now["state"] == "ready")
        for name in SHARDS[:-1]:
            assert not world.bytes_of(name)
        [rest] = world.bytes_of(SHARDS[-1])
        assert rest.start == len(checkpoint().files[SHARDS[-1]]) // 2


def test_a_server_that_is_told_to_end_while_its_model_comes_ends_well(machine, world):
    world.stall, world.stalls, world.stalls_of = threading.Event(), 1, SHARDS[-1]
    with serving(machine, HF_HUB_DOWNLOAD_TIMEOUT="600") as (server, address, said):
        wait_for_half_of_the_last(machine, address)
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0, "".join(said)
    assert len(machine.incomplete()) == 1
    world.stall.set()
    assert machine.glimpse("generate", "--model", NAME, *ASK).code == 0


def test_a_shard_that_is_none_fails_the_load_and_not_the_server(machine, world):
    broken = checkpoint()
    broken.files[SHARDS[1]] = bytes(len(broken.files[SHARDS[1]]))
    world.models[NAME] = Model({"main": broken})
    with serving(machine) as (_, address, _):
        failed = wait_until(address, lambda now: now["state"] == "failed")
        assert SHARDS[1] in failed["error"] and "download it again" in failed["error"]


def test_what_is_wrong_from_the_start_ends_the_server_with_a_sentence(machine, world):
    world.models[NAME].gated = True
    result = machine.glimpse("serve", "--model", NAME, "--device", "cpu", "--listen", "127.0.0.1:0")
    assert result.code == 1 and "listening" not in result.out
    assert result.err.strip().splitlines()[-1].endswith("[denied]") or "[gated]" in result.err
