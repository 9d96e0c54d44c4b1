"""A fleet on one machine: nats-server, gateways and workers, each a process that a test may stop, kill and start again."""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ports import free_port
from programs import program
from watching import PATIENCE, wait_for

# Long enough that whoever writes it can be killed over it.
LONG = {"sampling": {"max_new_tokens": 400}}


@dataclass
class Server:
    """Where a NATS server listens."""

    port: int
    route: int
    monitor: int


@dataclass
class Process:
    process: subprocess.Popen
    log: Path
    name: str = ""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)

    def ready(self) -> dict:
        """What `/readyz` says."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return json.load(answer) | {"ready": True}
        except urllib.error.HTTPError as answer:
            return json.load(answer) | {"ready": False}
        except OSError:
            return {"ready": False}


@dataclass
class Fleet:
    binary: Path
    folder: Path
    running: list = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)
    address: str = "127.0.0.1"
    # The store's size.
    pictures: str = "64MiB"

    def start(self, name: str, *command: str) -> Process:
        log = self.folder / f"{name}-{len(self.running)}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GLIMPSE_")}
        with log.open("a") as out:
            process = subprocess.Popen(command, cwd=self.folder, env=clean, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.running.append(Process(process, log, name))
        return self.running[-1]

    def serve_nats(self, number: int = 0, *within: str) -> Process:
        """NATS with JetStream, the one of that number where there are several; with `within` before the command."""
        self.servers = self.servers or [Server(free_port(), free_port(), free_port())]
        here = self.servers[number]
        file = self.folder / f"nats-{number}.conf"
        lines = [
            f"server_name: n{number}",
            f"listen: {self.address}:{here.port}",
            f"http: 127.0.0.1:{here.monitor}",
            f'jetstream {{ store_dir: "{self.folder}/nats-{number}", max_file_store: 4GB }}',
        ]
        if len(self.servers) > 1:
            routes = ", ".join(f"nats-route://127.0.0.1:{each.route}" for each in self.servers)
            lines.append(f"cluster {{ name: glimpse, listen: 127.0.0.1:{here.route}, routes: [{routes}] }}")
        file.write_text("\n".join(lines) + "\n")
        nats = self.start(f"nats-{number}", *within, program("nats-server"), "-c", str(file))

        def is_well():
            assert nats.process.poll() is None, nats.said()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{here.monitor}/healthz", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        # One of several is well once there are two.
        if len(self.servers) == 1 or number > 0:
            wait_for(is_well)
        nats.is_well = is_well
        return nats

    def serve_cluster(self) -> list[Process]:
        """Three NATS servers, each of which keeps everything."""
        self.servers = [Server(free_port(), free_port(), free_port()) for _ in range(3)]
        servers = [self.serve_nats(number) for number in range(3)]
        wait_for(lambda: all(server.is_well() for server in servers))
        return servers

    @property
    def flags(self) -> tuple[str, ...]:
        urls = ",".join(f"nats://{self.address}:{server.port}" for server in self.servers)
        replicas = ("--nats-replicas", str(len(self.servers)))
        return ("--nats", urls, *replicas, "--nats-pictures", self.pictures)

    def worker(self, name: str, *flags: str, wait: bool = True, within: tuple[str, ...] = ()) -> Process:
        threads = () if "--threads" in flags else ("--threads", "1")
        worker = self.start(name, *within, str(self.binary), "worker", *self.flags, "--name", name, *threads, *flags)
        return self.is_ready(worker) if wait else worker

    def is_ready(self, worker: Process) -> Process:
        def ready():
            assert worker.process.poll() is None, worker.said()
            return f"worker {worker.name} is ready" in worker.said()

        wait_for(ready)
        return worker

    def gateway(self, *flags: str, wait: bool = True) -> Process:
        port = free_port()
        gateway = self.start(f"gateway-{port}", str(self.binary), "gateway", *self.flags, "--listen", f"127.0.0.1:{port}", *flags)
        gateway.port = port
        if wait:
            self.wait_ready(gateway)
        return gateway

    def wait_ready(self, gateway: Process) -> Process:
        def ready():
            assert gateway.process.poll() is None, gateway.said()
            return gateway.ready()["ready"]

        wait_for(ready)
        return gateway

    def logs(self) -> str:
        return "\n".join(f"--- {each.name}\n{each.said()}" for each in {it.name: it for it in self.running}.values())

    def end(self) -> None:
        for each in self.running:
            if each.process.poll() is None:
                each.signal(signal.SIGCONT)
                each.process.kill()
        for each in self.running:
            each.process.wait()


def processor_ticks(process: Process) -> int:
    stat = Path(f"/proc/{process.process.pid}/stat").read_text()
    return sum(map(int, stat.rsplit(")", 1)[1].split()[11:13]))


def at_work(workers: list[Process]) -> Process:
    """The worker that computes now, by its processor time."""
    before = [processor_ticks(each) for each in workers]
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(0.05)
        spent = [processor_ticks(each) - b for each, b in zip(workers, before)]
        most = max(range(len(workers)), key=spent.__getitem__)
        if spent[most] >= 3 and spent[most] >= 3 * sorted(spent)[-2]:
            return workers[most]
    pytest.fail("no worker is at work")


def expected(connect, server, picture, text, **fields) -> str:
    """The answer of one process."""
    client = connect(server.ws)
    image = client.image(1, picture)
    client.ask("e", text, image=image, **fields)
    client.done("e")
    return client.answer("e")


def begin(connect, gateway, picture, text, request="a", **fields):
    """A client that has read its answer's first words."""
    client = connect(gateway.ws)
    image = client.image(1, picture)
    client.ask(request, text, image=image, **fields)
    while len([m for m in client.of(request) if m["type"] == "token"]) < 5:
        client.recv(PATIENCE)
    return client


def finished(client, request="a") -> str:
    """The answer, and that its messages came as those of one that nothing happened to."""
    moving = []
    while not any(m["type"] in ("done", "error") for m in client.of(request)):
        message = client.recv(PATIENCE)
        moving += message.get("moving", []) if message["type"] == "status" else []
    end = client.of(request)[-1]
    assert end["type"] == "done", end
    assert [m["type"] for m in client.of(request)].count("started") == 1
    client.moving = moving
    return client.answer(request)


def either_end(client) -> dict:
    """How a picture ended: looked at, or an error."""
    while True:
        message = client.recv(PATIENCE)
        if message["type"] in ("image_encoded", "error"):
            return message


@contextmanager
def asking(ask, clients: int, over: threading.Event):
    """So many clients run `ask(number)` meanwhile, each until it sees that it is `over`."""
    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
