"""Many machines: workers are killed, drained and asked to end while they answer, and nobody's answer loses a word."""

import json
import os
import random
import signal
import statistics
import subprocess
import threading
import time

from fleets import LONG, asking, at_work, begin, expected, finished
from watching import PATIENCE, TALKATIVE, wait_for
from websockets.exceptions import ConnectionClosed


def test_a_fleet_answers_as_one_process_does(fleet, alone, connect, scene):
    fleet.serve_nats()
    gateway = fleet.gateway(wait=False)
    # With nobody there, it says what is missing.
    wait_for(lambda: "No worker is here" in (gateway.ready().get("error") or ""))
    fleet.worker("one", *TALKATIVE)
    fleet.wait_ready(gateway)
    question = "How many circles are there?"
    assert finished(begin(connect, gateway, scene(), question)) == expected(connect, alone, scene(), question)
    # Sampled ones too: randomness is by counter.
    sampled = {"sampling": {"temperature": 0.9, "seed": 7, "max_new_tokens": 60}}
    client = connect(gateway.ws)
    client.ask("s", question, **sampled)
    client.done("s")
    other = connect(alone.ws)
    other.ask("s", question, **sampled)
    other.done("s")
    assert client.answer("s") == other.answer("s")


def test_an_answer_outlives_the_worker_that_was_killed_over_it(fleet, alone, connect, scene):
    fleet.serve_nats()
    workers = [fleet.worker(name, *TALKATIVE) for name in ("one", "two")]
    gateway = fleet.gateway()
    client = begin(connect, gateway, scene(), "What is in it?", **LONG)
    at_work(workers).kill()
    answer = finished(client)
    assert client.moving == ["a"]
    assert answer == expected(connect, alone, scene(), "What is in it?", **LONG)
    # The conversation goes on where it is at home now.
    conversation = client.of("a")[0]["conversation"]
    client.ask("b", "And now?", conversation=conversation)
    assert client.done("b")["finish_reason"] in ("stop", "length")
    assert fleet.wait_ready(gateway)


def test_a_worker_that_drains_finishes_and_ends(fleet, alone, connect, scene):
    fleet.serve_nats()
    workers = [fleet.worker(name, *TALKATIVE) for name in ("one", "two")]
    gateway = fleet.gateway()
    client = begin(connect, gateway, scene(), "What is in it?", **LONG)
    leaving = at_work(workers)
    drain = subprocess.Popen([fleet.binary, "drain", *fleet.flags, leaving.name], stdout=subprocess.PIPE, text=True)
    assert finished(client) == expected(connect, alone, scene(), "What is in it?", **LONG)
    assert client.moving == []
    assert leaving.wait() == 0
    assert drain.wait(PATIENCE) == 0 and "questions" in drain.communicate()[0]
    # Its conversation goes on with the other.
    conversation = client.of("a")[0]["conversation"]
    client.ask("b", "And now?", conversation=conversation)
    client.done("b")
    gone = subprocess.run([fleet.binary, "drain", *fleet.flags, leaving.name], capture_output=True, text=True)
    assert gone.returncode == 1 and "no worker" in gone.stderr


def test_a_worker_that_is_asked_to_end_hands_its_answers_on(fleet, alone, connect, scene):
    fleet.serve_nats()
    workers = [fleet.worker(name, *TALKATIVE) for name in ("one", "two")]
    gateway = fleet.gateway()
    client = begin(connect, gateway, scene(), "What is in it?", **LONG)
    leaving = at_work(workers)
    leaving.signal(signal.SIGTERM)
    assert leaving.wait() == 0
    assert finished(client) == expected(connect, alone, scene(), "What is in it?", **LONG)
    assert client.moving == ["a"]


def test_another_model_and_other_limits_are_refused(fleet, connect):
    fleet.serve_nats()
    fleet.worker("one", *TALKATIVE)
    gateway = fleet.gateway()
    fleet.worker("other", "--random-weights", "2", *TALKATIVE[2:])
    wait_for(lambda: "a worker is refused" in gateway.said())
    other = fleet.gateway("--open-requests", "3", wait=False)
    assert other.wait() == 1 and "other limits" in other.said()
    # The same limits are welcome.
    second = fleet.gateway()
    client = connect(second.ws)
    client.ask("a", "Hello?")
    client.done("a")


def test_kills_at_random_moments_lose_no_word(fleet, alone, connect, scene):
    """GLIMPSE_KILLS says how many; `make bench-fleet` makes 200 of them and prints what they cost."""
    kills = int(os.environ.get("GLIMPSE_KILLS", "8"))
    clients = int(os.environ.get("GLIMPSE_CLIENTS", "4" if kills < 100 else "16"))
    fleet.serve_nats()
    names = ("one", "two", "three")
    flags = (*TALKATIVE, "--max-batch", "8")
    workers = {name: fleet.worker(name, *flags) for name in names}
    gateways = [fleet.gateway(), fleet.gateway()]
    question, options = "What is in it?", {"sampling": {"max_new_tokens": 300}}
    pictures = [scene(circles=1 + number % 5) for number in range(3)]
    wanted = [expected(connect, alone, picture, question, **options) for picture in pictures]
    over = threading.Event()
    lock = threading.Lock()
    wrong, pauses, moves, answers = [], [], [0], [0]

    def ask(number: int) -> None:
        try:
            client = connect(gateways[number % 2].ws)
            image = client.image(1, pictures[number % 3])
            asked = 0
            while not over.is_set():
                asked += 1
                request = f"r{asked}"
                client.ask(request, question, image=image, **options)
                last, moving = None, None
                while True:
                    message = client.recv(PATIENCE)
                    now = time.monotonic()
                    if request in message.get("moving", []):
                        moving = last or now
                        moves[0] += 1
                    if message.get("request") != request:
                        continue
                    if message["type"] == "token":
                        if moving is not None:
                            with lock:
                                pauses.append(now - moving)
                            moving = None
                        last = now
                    if message["type"] in ("done", "error"):
                        break
                if message["type"] != "done" or client.answer(request) != wanted[number % 3]:
                    wrong.append((number, request, message, client.answer(request)))
                    return
                answers[0] += 1
        except (AssertionError, ConnectionClosed, TimeoutError, OSError) as problem:
            if not over.is_set():
                wrong.append((number, problem))

    luck = random.Random(5)
    with asking(ask, clients, over):
        for _ in range(kills):
            # With one of them back and one at least that lives.
            time.sleep(luck.uniform(0.2, 2.0))
            name = luck.choice(names)
            workers[name].kill()
            workers[name] = fleet.worker(name, *flags)
            if wrong:
                break
    assert not wrong, f"{wrong[0]}\n{fleet.logs()[-6000:]}"
    assert answers[0] >= clients
    if pauses:
        pauses.sort()
        p95 = pauses[max(0, -(-len(pauses) * 95 // 100) - 1)]
        print(
            f"\n{kills} kills over {len(gateways)} gateways and {len(names)} workers with {clients} clients: {answers[0]} answers, "
            f"{moves[0]} moved, 0 words lost, 0 twice; pause p50 {statistics.median(pauses):.2f} s, p95 {p95:.2f} s, most {pauses[-1]:.2f} s"
        )


def test_a_fleet_says_who_is_there(fleet, binary):
    def said(*flags):
        return subprocess.run([binary, "fleet", *fleet.flags, *flags], capture_output=True, text=True, check=True).stdout

    fleet.serve_nats()
    workers = [fleet.worker(name, *TALKATIVE) for name in ("one", "two")]
    fleet.gateway()
    members = json.loads(said("--json"))
    assert [(each["name"], each["quantization"], each["draining"]) for each in members["workers"]] == [
        ("one", "none", False), ("two", "none", False)]
    assert [each["load"]["open"] for each in members["workers"]] == [0, 0]
    assert [each["alive"] for each in members["gateways"]] == [True]
    head, *lines, gateways = said().splitlines()
    assert [line.split()[:2] for line in (head, *lines)] == [["WORKER", "STATE"], ["one", "ready"], ["two", "ready"]]
    assert gateways == "1 of 1 gateways are there"
    workers[0].kill()
    wait_for(lambda: [each["load"] is None for each in json.loads(said("--json"))["workers"]] == [True, False])
    assert said().splitlines()[1].split()[:2] == ["one", "silent"]
