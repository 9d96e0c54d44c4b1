"""Who may say what in a fleet, by deploy/nats.conf as it stands: TLS, an nkey for each role, and nothing but what the role needs."""

import json
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from fleets import LONG, Fleet, Server, at_work, begin, expected, finished
from nkeys import User
from ports import free_port
from programs import program
from watching import PATIENCE, TALKATIVE, wait_for

ROOT = Path(__file__).resolve().parents[2]


class Locked(Fleet):
    """A fleet behind deploy/nats.conf, of which nothing is changed but where the server listens."""

    def serve(self, without: str = ""):
        """Without one of the rights."""
        self.servers = [Server(free_port(), 0, free_port())]
        here = self.servers[0]
        ca, self.pem, signing, key, request = (self.folder / name for name in ("ca.pem", "nats.pem", "ca.key", "nats.key", "nats.csr"))
        for command in (
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nats-ca", "-keyout", signing, "-out", ca],
            ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nats", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", request],
            ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", signing, "-copy_extensions", "copy", "-out", self.pem],
        ):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
        self.ca = ca
        self.users = {role: User.generate() for role in ("gateway", "worker")}
        for role, user in self.users.items():
            (self.folder / f"{role}.nk").write_text(user.seed + "\n")
        text = (ROOT / "deploy/nats.conf").read_text()
        for old, new in (("0.0.0.0:4222", f"127.0.0.1:{here.port}"), ("127.0.0.1:8222", f"127.0.0.1:{here.monitor}")):
            assert old in text
            text = text.replace(old, new)
        assert without in text
        text = text.replace(without, "")
        conf = self.folder / "nats.conf"
        conf.write_text(text)
        names = {"STORE": self.folder / "store", "CERT": self.pem, "KEY": key}
        environment = [f"NATS_{name}={value}" for name, value in names.items()]
        environment += [f"{role.upper()}_NKEY={user.public}" for role, user in self.users.items()]
        self.nats = self.start("nats", "env", *environment, program("nats-server"), "-c", str(conf))
        wait_for(self.is_open)

    def is_open(self):
        assert self.nats.process.poll() is None, self.nats.said()
        try:
            socket.create_connection(("127.0.0.1", self.servers[0].port), 5).close()
        except OSError:
            return False
        return True

    @property
    def flags(self):
        url = f"tls://127.0.0.1:{self.servers[0].port}"
        return ("--nats", url, "--nats-ca", str(self.ca), "--nats-pictures", self.pictures)

    def worker(self, name, *flags, **options):
        return super().worker(name, *flags, "--nats-credentials", str(self.folder / "worker.nk"), **options)

    def gateway(self, *flags, **options):
        return super().gateway(*flags, "--nats-credentials", str(self.folder / "gateway.nk"), **options)

    def first_gateway(self):
        """One that nobody computes for yet."""
        gateway = self.gateway(wait=False)

        def is_there():
            assert gateway.process.poll() is None, gateway.said()
            return "No worker is here" in (gateway.ready().get("error") or "")

        wait_for(is_there)
        return gateway


@pytest.fixture
def locked(binary, tmp_path, request):
    fleet = Locked(binary, tmp_path)
    fleet.serve(getattr(request, "param", ""))
    yield fleet
    fleet.end()


class Speaker:
    """Somebody with a role's key who speaks to NATS by hand."""

    def __init__(self, fleet: Locked, role: str):
        plain = socket.create_connection(("127.0.0.1", fleet.servers[0].port), PATIENCE)
        plain.settimeout(PATIENCE)
        greeting = b""
        while not greeting.endswith(b"\r\n"):
            greeting += plain.recv(1)
        nonce = json.loads(greeting.removeprefix(b"INFO "))["nonce"]
        context = ssl.create_default_context(cafile=fleet.ca)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.came = b""
        user = fleet.users[role]
        hello = {"verbose": False, "pedantic": False, "tls_required": True, "nkey": user.public, "sig": user.signed(nonce)}
        self.says(f"CONNECT {json.dumps(hello)}")
        assert self.answer() == []

    def says(self, *lines: str):
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def answer(self) -> list[str]:
        """The errors until the server has read all that was said."""
        self.says("PING")
        while b"PONG\r\n" not in self.came:
            self.came += self.socket.recv(65536) or pytest.fail("the connection was closed")
        before, _, self.came = self.came.partition(b"PONG\r\n")
        return [line for line in before.decode().split("\r\n") if line.startswith("-ERR")]

    def may_publish(self, subject: str) -> bool:
        self.says(f"PUB {subject} 0", "")
        return not self.answer()

    def may_subscribe(self, subject: str) -> bool:
        self.says(f"SUB {subject} 1", "UNSUB 1")
        return not self.answer()


def test_a_worker_is_lost_and_another_goes_on_behind_nkeys_and_tls(locked, alone, connect, scene):
    # It makes the streams, which workers may not.
    gateway = locked.first_gateway()
    workers = [locked.worker(name, *TALKATIVE) for name in ("one", "two")]
    locked.wait_ready(gateway)
    picture, question = scene(circles=3), "What is in it?"
    client = begin(connect, gateway, picture, question, **LONG)
    at_work(workers).kill()
    assert finished(client) == expected(connect, alone, picture, question, **LONG)
    assert client.moving == ["a"]


@pytest.mark.parametrize("locked", [
    '"$JS.API.CONSUMER.MSG.NEXT.glimpse-commands.>", ',
    '"glimpse.command.*.*", ',
], ids=["the stream hands nothing on", "nothing is heard as it is sent"], indirect=True)
def test_what_a_worker_is_asked_comes_to_it_in_two_ways_of_which_one_is_enough(locked, alone, connect, scene):
    gateway = locked.first_gateway()
    locked.worker("one", *TALKATIVE)
    locked.wait_ready(gateway)
    picture, question = scene(circles=3), "What is in it?"
    client = begin(connect, gateway, picture, question, **LONG)
    assert finished(client) == expected(connect, alone, picture, question, **LONG)


def test_what_no_worker_may_say_or_hear(locked):
    locked.first_gateway()
    worker = Speaker(locked, "worker")
    # It is let say what it has to.
    for subject in ("glimpse.event.g.w", "glimpse.beat.worker.w", "$KV.glimpse.worker.one"):
        assert worker.may_publish(subject), subject
    for subject in ("glimpse.command.w.g", "glimpse.pixels.w", "glimpse.tokens", "_INBOX.x.>"):
        assert worker.may_subscribe(subject), subject
    # It tells no other worker anything, and passes for no gateway.
    forbidden = ["glimpse.command.w.g", "glimpse.pixels.w", "glimpse.beat.gateway.g", "glimpse.tokens", "glimpse.drain.two",
                 "$KV.glimpse.gateway.g", "$O.glimpse-pictures.C.x", "$O.glimpse-pictures.M.x", "glimpse.session.s", "glimpse.key.s", "glimpse.taken.g"]
    # Nor does it make, change or delete streams, or read what workers tell, sessions or their keys.
    for stream in ("glimpse-commands", "glimpse-events", "glimpse-sessions", "glimpse-keys", "KV_glimpse", "OBJ_glimpse-pictures", "mine"):
        forbidden += [f"$JS.API.STREAM.{what}.{stream}" for what in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT")]
    for stream in ("glimpse-events", "glimpse-sessions", "glimpse-keys"):
        forbidden += [f"$JS.API.{what}.{stream}" for what in ("STREAM.MSG.GET", "CONSUMER.CREATE", "CONSUMER.LIST", "DIRECT.GET")]
        forbidden += [f"$JS.API.CONSUMER.CREATE.{stream}.c", f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.c", f"$JS.API.DIRECT.GET.{stream}.x"]
    forbidden += ["$JS.API.STREAM.MSG.GET.glimpse-commands", "$JS.API.DIRECT.GET.glimpse-commands", "$JS.API.INFO", "$SYS.REQ.SERVER.PING"]
    allowed = [subject for subject in forbidden if worker.may_publish(subject)]
    heard = [subject for subject in (">", "glimpse.>", "glimpse.event.>", "glimpse.command.>", "glimpse.beat.worker.>", "glimpse.session.>", "glimpse.key.>", "glimpse.taken.>", "$JS.>", "$KV.>", "$O.>", "$SYS.>")
             if worker.may_subscribe(subject)]
    assert (allowed, heard) == ([], [])


def test_a_gateway_is_let_do_what_it_has_to_and_a_stranger_nothing(locked):
    assert Speaker(locked, "gateway").may_publish("glimpse.command.w.g")
    locked.users["stranger"] = User.generate()
    with pytest.raises((AssertionError, OSError, pytest.fail.Exception)):
        Speaker(locked, "stranger")
