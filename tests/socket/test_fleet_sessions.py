"""Many machines: gateways are killed, stopped and asked to end, and their sessions go on at another one."""

import base64
import io
import json
import os
import random
import signal
import socket
import threading
import urllib.request

import pytest
from PIL import Image

from fleets import LONG, asking, begin, expected, finished
from watching import PATIENCE, TALKATIVE, metrics, wait_for
from websockets.exceptions import ConnectionClosed, InvalidHandshake

QUESTION = "What is in it?"


def sessions(gateway) -> float:
    return sum(value for name, value in metrics(gateway).items() if name.startswith("glimpse_sessions"))


def watched(fleet, what: str) -> dict:
    """What NATS tells of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.servers[0].monitor}/{what}", timeout=5) as answer:
        return json.load(answer)


def kept(fleet) -> dict[str, dict]:
    """How each stream stands."""
    (account,) = watched(fleet, "jsz?accounts=true&streams=true")["account_details"]
    return {stream["name"]: stream["state"] for stream in account["stream_detail"]}


def taken(fleet) -> int:
    """Bytes of its disk, as NATS counts them."""
    return watched(fleet, "jsz")["storage"]


def records(fleet, stream: str) -> list[bytes]:
    """A stream's messages, as anybody could ask for them whom NATS lets."""
    state = kept(fleet)[stream]
    with socket.create_connection(("127.0.0.1", fleet.servers[0].port), PATIENCE) as nats:
        nats.settimeout(PATIENCE)
        lines = nats.makefile("rb")
        nats.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n')
        found = []
        for place in range(state["first_seq"], state["last_seq"] + 1):
            asked = json.dumps({"seq": place}).encode()
            nats.sendall(b"PUB $JS.API.STREAM.MSG.GET.%s answer %d\r\n%s\r\n" % (stream.encode(), len(asked), asked))
            while not (head := lines.readline()).startswith(b"MSG "):
                assert head, "the connection was closed"
            message = json.loads(lines.read(int(head.split()[-1]))).get("message", {})
            found.append(base64.b64decode(message.get("data", "")) + base64.b64decode(message.get("hdrs", "")))
    return found


def contents(file) -> bytes:
    """What lies in a file of the server's, which deletes some as it goes."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def picture_of(client) -> str:
    return next(m["image"] for m in client.events.values() if m["type"] == "image_ready")


def go_on(client, gateway) -> None:
    """The session, at another gateway."""
    client.url = gateway.ws
    assert client.resume()["resumed"] is True, (client.welcome["reason"], client.last_event, [line for line in gateway.said().splitlines() if "ERROR" in line or "WARN" in line])


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_any_gateway_resumes_any_session(fleet, alone, connect, scene, end):
    fleet.serve_nats()
    fleet.worker("one", *TALKATIVE)
    # Asked to end, it does not wait for the answer.
    gateways = [fleet.gateway("--drain-seconds", "0"), fleet.gateway("--drain-seconds", "0")]
    client = begin(connect, gateways[0], scene(), QUESTION, **LONG)
    gateways[0].signal(end)
    gateways[0].wait()
    go_on(client, gateways[1])
    assert finished(client) == expected(connect, alone, scene(), QUESTION, **LONG)
    # Its picture and its conversation are there too.
    conversation = client.of("a")[0]["conversation"]
    client.ask("b", "And now?", conversation=conversation)
    assert client.done("b")["usage"]["image_tokens"] > 0
    # What it asked for before is known, and what is over can't be resumed.
    client.ask("b", "And now?", conversation=conversation)
    client.ask("a", "Something else")
    client.error("duplicate_request")
    client.close()
    late = connect(gateways[1].ws, hello={"resume": {"session": client.session, "last_event": client.last_event}})
    assert late.welcome["resumed"] is False


def test_of_two_gateways_one_has_a_session(fleet, alone, connect, scene):
    fleet.serve_nats()
    fleet.worker("one", *TALKATIVE)
    gateways = [fleet.gateway(), fleet.gateway()]
    client = begin(connect, gateways[0], scene(), QUESTION, **LONG)
    gateways[0].signal(signal.SIGSTOP)
    before = client.ws
    go_on(client, gateways[1])
    for _ in range(3):
        client.until("token")
    gateways[0].signal(signal.SIGCONT)
    assert finished(client) == expected(connect, alone, scene(), QUESTION, **LONG)
    # Where it was before, its connection hears that.
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            before.recv(timeout=PATIENCE)
    assert closed.value.rcvd.code == 4001
    # And back, with nobody dead.
    client.ask("b", QUESTION, conversation=client.of("a")[0]["conversation"], **LONG)
    client.until("token")
    client.cut()
    go_on(client, gateways[0])
    finished(client, "b")


def test_what_moved_is_not_ended_where_it_was(fleet, connect, scene):
    fleet.serve_nats()
    fleet.worker("one", *TALKATIVE)
    short = ("--resume-seconds", "5")
    gateways = [fleet.gateway(*short), fleet.gateway(*short)]
    client = connect(gateways[0].ws)
    image = client.image(1, scene())
    # With its connection still open there.
    before = client.ws
    go_on(client, gateways[1])
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            before.recv(timeout=PATIENCE)
    assert closed.value.rcvd.code == 4001
    wait_for(lambda: sessions(gateways[0]) == 0)
    client.ask("a", QUESTION, image=image)
    client.done("a")
    gateways[1].kill()
    go_on(client, gateways[0])
    client.ask("b", "And now?", conversation=client.of("a")[0]["conversation"])
    assert client.done("b")["usage"]["image_tokens"] > 0


def test_a_session_outlives_nats_and_then_its_gateway(fleet, alone, connect, scene):
    nats = fleet.serve_nats()
    fleet.worker("one", *TALKATIVE)
    gateways = [fleet.gateway(), fleet.gateway()]
    client = begin(connect, gateways[0], scene(), QUESTION)
    finished(client)
    nats.kill()
    fleet.serve_nats()
    # Nothing happens in it, and yet it is there again.
    wait_for(lambda: kept(fleet).get("glimpse-sessions", {}).get("messages", 0) > 0 and kept(fleet).get("glimpse-keys", {}).get("messages", 0) > 0)
    gateways[0].kill()
    go_on(client, gateways[1])
    client.ask("b", QUESTION, conversation=client.of("a")[0]["conversation"])
    assert client.done("b")["usage"]["image_tokens"] > 0


def test_what_is_over_takes_no_room_of_nats(fleet, connect, photo):
    """Also by the server's own count, which is what it refuses by."""
    fleet.serve_nats()
    fleet.worker("one", *TALKATIVE)
    gateway = fleet.gateway()
    client = connect(gateway.ws)
    for number in range(1, 9):
        image = client.image(number, photo(number))
        client.ask(f"r{number}", QUESTION, image=image)
        client.done(f"r{number}")
        assert taken(fleet) > 400_000
        client.send(type="forget", image=image)
        client.until("forgotten", lambda m, image=image: m["image"] == image)
    wait_for(lambda: taken(fleet) < 20_000)


def test_a_worker_lost_beside_its_gateway_takes_nothing_along(fleet, alone, connect, scene):
    fleet.serve_nats()
    worker = fleet.worker("one", *TALKATIVE)
    fleet.worker("two", *TALKATIVE)
    gateways = [fleet.gateway(), fleet.gateway()]
    client = begin(connect, gateways[0], scene(), QUESTION, **LONG)
    gateways[0].kill()
    worker.kill()
    go_on(client, gateways[1])
    assert finished(client) == expected(connect, alone, scene(), QUESTION, **LONG)


def test_gateways_lost_at_random_moments_lose_no_word(fleet, alone, connect, scene):
    """GLIMPSE_KILLS says how many are killed, or stopped and let go on; `make bench-fleet` makes 200."""
    kills = int(os.environ.get("GLIMPSE_KILLS", "8"))
    clients = int(os.environ.get("GLIMPSE_CLIENTS", "4"))
    fleet.serve_nats()
    for name in ("one", "two"):
        fleet.worker(name, *TALKATIVE, "--max-batch", "8")
    gateways = [fleet.gateway() for _ in range(3)]
    options = {"sampling": {"max_new_tokens": 300}}
    pictures = [scene(circles=1 + number) for number in range(3)]
    wanted = [expected(connect, alone, picture, QUESTION, **options) for picture in pictures]
    over = threading.Event()
    wrong, answers, resumed = [], [0], [0]

    def back(client) -> None:
        """The session goes on at whichever gateway is there."""
        client.cut()
        while True:
            for gateway in list(gateways):
                client.url = gateway.ws
                try:
                    client.resume()
                except (ConnectionClosed, InvalidHandshake, TimeoutError, OSError):
                    continue
                assert client.welcome["resumed"] is True, (client.welcome["reason"], client.last_event)
                resumed[0] += 1
                return

    def ask(number: int) -> None:
        try:
            client = connect(gateways[number % 3].ws)
            image = client.image(1, pictures[number % 3])
            asked = 0
            while not over.is_set():
                asked += 1
                request = f"r{asked}"
                while not any(m["type"] in ("done", "error") for m in client.of(request)):
                    try:
                        if not any(m["type"] == "queued" for m in client.of(request)):
                            # Whether it was heard is not known.
                            client.ask(request, QUESTION, image=image, **options)
                        while not any(m["type"] in ("done", "error") for m in client.of(request)):
                            client.recv(3)
                    except (ConnectionClosed, TimeoutError, OSError):
                        back(client)
                end = client.of(request)[-1]
                if end.get("code") == "loading" and not client.answer(request):
                    # A gateway that was stopped does not know yet that NATS answers: it took nothing.
                    over.wait(end["retry_after_ms"] / 1000)
                    continue
                if end["type"] != "done" or client.answer(request) != wanted[number % 3]:
                    wrong.append((number, request, end, client.answer(request)))
                    return
                answers[0] += 1
        except Exception as problem:  # noqa: BLE001 - whatever it is, the test tells it
            wrong.append((number, problem))

    luck = random.Random(5)
    with asking(ask, clients, over):
        for kill in range(kills):
            before = answers[0]
            wait_for(lambda: answers[0] > before or wrong)
            threading.Event().wait(luck.uniform(0.0, 1.0))
            at = luck.randrange(3)
            if kill % 2:
                gateways[at].signal(signal.SIGSTOP)
                threading.Event().wait(luck.uniform(1.0, 5.0))
                gateways[at].signal(signal.SIGCONT)
            else:
                gateways[at].kill()
                gateways[at] = fleet.gateway()
            if wrong:
                break
    assert not wrong, f"{wrong[0]}\n{fleet.logs()[-6000:]}"
    print(f"\n{kills} gateways lost with {clients} clients: {answers[0]} answers, {resumed[0]} resumed, 0 words lost, 0 twice")


def test_nothing_readable_is_kept(fleet, connect, scene):
    fleet.serve_nats()
    fleet.worker("one", *TALKATIVE)
    gateway = fleet.gateway()
    secret = "Where did the zeppelin over Friedrichshafen go?"
    client = begin(connect, gateway, scene(), secret, **LONG)
    finished(client)
    words = client.answer("a").strip()
    assert len(words) > 40
    readable = (b"zeppelin", client.session.encode(), words[:20].encode(), words[-20:].encode(), b"\xff" * 256)
    # The picture's ground is white.
    assert readable[-1] in Image.open(io.BytesIO(scene())).tobytes()

    def found() -> list:
        files = [file for file in (fleet.folder / "nats-0").rglob("*") if file.is_file()]
        for stream in ("glimpse-commands", "glimpse-events", "OBJ_glimpse-pictures"):
            assert any(stream in str(file) for file in files), stream
        assert not any(stream in str(file) for stream in ("glimpse-sessions", "glimpse-keys") for file in files)
        lie = [contents(file) for file in files] + records(fleet, "glimpse-sessions")
        return [word for word in readable if any(word in each for each in lie)]

    assert len(records(fleet, "glimpse-sessions")) > 0
    assert found() == []
    client.send(type="forget", image=picture_of(client))
    client.until("forgotten")
    client.close()
    assert found() == []
