"""Ports for servers under test that have to be told one, or that are started again at the same."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

EACH = 1000


def _own() -> Iterator[int]:
    """Below those that the system gives to whoever asks for any, which may be anybody between a look and a start; and apart for each
    of pytest's workers."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    # Other runs on this machine begin elsewhere.
    at = os.getpid()
    while True:
        at += 1
        yield first - (worker % 8 + 1) * EACH + at % EACH


_PORTS = _own()


def free_port() -> int:
    """One at which nobody listens."""
    for _ in range(EACH):
        port = next(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
