"""A fleet's trouble that passes: workers that stand still or are cut off, NATS that restarts, dies or has no room. GLIMPSE_ROUNDS says
how often each worker's trouble is made; `make bench-fleet` makes it 50 times."""

import contextlib
import os
import random
import signal
import time

import pytest
from fleets import LONG, begin, at_work, either_end, expected, finished
from spaces import Disk, Network
from watching import PATIENCE, TALKATIVE, wait_for

ROUNDS = int(os.environ.get("GLIMPSE_ROUNDS", "1"))
QUESTION = "What is in it?"


@pytest.fixture
def network():
    network = Network()
    yield network
    network.end()


def goes_on_once(fleet, alone, connect, picture, workers, gateway, stop, heal):
    """Each round, whoever is at work falls silent, and is back at a moment between before and after the others have its answer."""
    wanted = expected(connect, alone, picture, QUESTION, **LONG)
    luck, moved = random.Random(7), 0
    for done in range(ROUNDS):
        client = begin(connect, gateway, picture, QUESTION, **LONG)
        silent = at_work(workers)
        stop(silent)
        if done % 2 == 0:
            # Once another has it, which is while that writes.
            while not client.recv(PATIENCE).get("moving"):
                pass
        else:
            time.sleep(luck.uniform(0, 10))
        heal(silent)
        answer = finished(client)
        assert answer == wanted
        moved += len(client.moving) + (done % 2 == 0)
        # It is taken up again, and what it had has been let go.
        wait_for(lambda: gateway.said().count("a worker is back") == gateway.said().count("a worker is lost"))
        client.ws.close()
    print(f"\n{ROUNDS} rounds, {moved} answers moved, 0 words lost, 0 twice")
    return moved


def test_one_that_was_stopped_and_goes_on_is_not_heard_twice(fleet, alone, connect, scene):
    fleet.serve_nats()
    workers = [fleet.worker(name, *TALKATIVE) for name in ("one", "two")]
    gateway = fleet.gateway()
    stop, heal = (lambda worker: worker.signal(signal.SIGSTOP)), (lambda worker: worker.signal(signal.SIGCONT))
    assert goes_on_once(fleet, alone, connect, scene(), workers, gateway, stop, heal) >= 1


def test_one_that_was_cut_off_and_is_back_is_not_heard_twice(fleet, alone, connect, scene, network):
    fleet.address = network.address
    fleet.serve_nats()
    hosts = {name: network.host() for name in ("one", "two")}
    workers = [fleet.worker(name, *TALKATIVE, within=network.within(host)) for name, host in hosts.items()]
    gateway = fleet.gateway()
    cut, heal = (lambda worker: network.cut(hosts[worker.name])), (lambda worker: network.heal(hosts[worker.name]))
    assert goes_on_once(fleet, alone, connect, scene(), workers, gateway, cut, heal) >= 1
    assert all(worker.process.poll() is None for worker in workers)


def test_nats_restarted_costs_a_pause_and_moves_nobody(fleet, alone, connect, scene):
    nats = fleet.serve_nats()
    worker = fleet.worker("one", *TALKATIVE)
    gateway = fleet.gateway()
    client = begin(connect, gateway, scene(), QUESTION, **LONG)
    nats.kill()
    time.sleep(1)
    fleet.serve_nats()
    assert finished(client) == expected(connect, alone, scene(), QUESTION, **LONG)
    assert client.moving == [] and worker.process.poll() is None
    assert "is lost" not in gateway.said()


@pytest.mark.long
def test_one_of_three_nats_servers_killed_costs_a_pause_and_moves_nobody(fleet, alone, connect, scene):
    servers = fleet.serve_cluster()
    worker = fleet.worker("one", *TALKATIVE)
    gateway = fleet.gateway()
    wanted = expected(connect, alone, scene(), QUESTION, **LONG)
    # One of them leads, and one of them everybody is connected to.
    for number in range(3):
        client = begin(connect, gateway, scene(), QUESTION, **LONG)
        servers[number].kill()
        assert finished(client) == wanted
        assert client.moving == [] and worker.process.poll() is None
        servers[number] = fleet.serve_nats(number)
        wait_for(lambda: all(server.is_well() for server in servers))
        # The answer was heard beside its stream, which may have no leader still: then nobody is let begin.
        fleet.wait_ready(gateway)
    assert "is lost" not in gateway.said()


def test_a_full_disk_is_said_and_heals(fleet, alone, connect, scene):
    disk = Disk(fleet.folder / "nats-0", 16)
    try:
        nats = fleet.serve_nats(0, *disk.enter)
        worker = fleet.worker("one", *TALKATIVE)
        gateway = fleet.gateway()
        client = begin(connect, gateway, scene(), QUESTION, **LONG)
        disk.fill()
        # Who asks when it is full: nobody may know of it before.
        other = connect(gateway.ws)
        other.ask("o", QUESTION, **LONG)

        def is_full():
            # Whoever does not read is cut off.
            with contextlib.suppress(TimeoutError):
                while True:
                    client.recv(0.05)
            said = gateway.ready()
            return not said["ready"] and "free some" in (said.get("error") or "") and said

        said = wait_for(is_full)
        assert "restart" in said["error"], said
        disk.free()
        nats.kill()
        fleet.serve_nats(0, *disk.enter)
        assert finished(client) == expected(connect, alone, scene(), QUESTION, **LONG)
        assert client.moving == [] and worker.process.poll() is None
        assert finished(other, "o")
        fleet.wait_ready(gateway)
    finally:
        disk.end()


def test_a_full_store_is_busy_for_a_while(fleet, connect, photo):
    """The demo's pictures take little: the store here has room for a few of them."""
    fleet.serve_nats()
    fleet.pictures = "3MiB"
    fleet.worker("one", *TALKATIVE)
    gateway = fleet.gateway()
    client = connect(gateway.ws)
    kept, refused = [], None
    for number in range(1, 16):
        client.upload(number, photo(number))
        message = either_end(client)
        if message["type"] == "error":
            refused = message
            break
        kept.append(message["image"])
    assert kept and refused and refused["code"] == "busy" and refused["retry_after_ms"] > 0, (kept, refused)
    for image in kept:
        client.send(type="forget", image=image)
    for _ in kept:
        client.until("forgotten")

    def again():
        number = 100 + int(time.monotonic() * 10) % 1_000_000
        client.upload(number, photo(number % 50))
        return either_end(client)["type"] == "image_encoded"

    wait_for(again)
