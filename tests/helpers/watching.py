"""What can be seen of a server from outside, and waiting until something is seen: a test waits for what must happen, not for time."""

import os
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Random weights of the demo's shape do not know when to stop: their answers are as long as asked for.
TALKATIVE = ("--random-weights", "1", "--config", str(ROOT / "models/demo/config.json"))
# How long anything may take that must happen at all. Only what hangs takes so long, on however busy a machine.
PATIENCE = 120


def wait_for(condition, seconds: float = PATIENCE):
    """Until `condition()` is true; what it returned then."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still not true after {seconds} s"
        time.sleep(0.02)
    return found


def metrics(server, key: str | None = None) -> dict[str, float]:
    """Every sample of `/metrics`, by its name with its labels; `key` is an API key, where one is needed."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with urllib.request.urlopen(urllib.request.Request(server.url + "/metrics", headers=headers), timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def rise(server, before: dict[str, float], prefix: str) -> dict[str, float]:
    """By how much each sample of that name has risen, where it has."""
    now = metrics(server)
    rises = {name: now[name] - before.get(name, 0) for name in now if name.startswith(prefix)}
    return {name: by for name, by in rises.items() if by}


def _status(server, field: str) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(field + ":"))


def resident(server) -> int:
    """The server's memory, in KiB."""
    return _status(server, "VmRSS")


def peak(server) -> int:
    """The most that it ever had, in KiB."""
    return _status(server, "VmHWM")


def processor_seconds(server) -> float:
    """Processor time that the server has used, all its threads together: what else the machine does is not in it."""
    stat = Path(f"/proc/{server.process.pid}/stat").read_text()
    user, system = stat.rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
