"""What NATS with JetStream takes on this machine: records and bytes a second of streams on disk, kept once and by three servers.

    nats.py [--seconds 4] [--out FILE]

Each stream has a client of its own, which has at most 500 records under way. Servers and clients share the machine. `--out` writes
the rates as `glimpse bench --fleet --nats-rates` reads them.
"""

import argparse
import json
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))

from fleets import Fleet  # noqa: E402

UNDER_WAY = 500
RECORD, PIECE = 300, 128 * 1024


class Nats:
    """A connection that publishes and counts what was acknowledged."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.send(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB acks.%d 1\r\n' % id(self))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> bytes:
        while not (line := self.file.readline()).startswith(b"MSG"):
            if line.startswith(b"PING"):
                self.send(b"PONG\r\n")
            assert line and not line.startswith(b"-ERR"), line
        return self.file.read(int(line.split()[-1]) + 2)

    def ask(self, subject: str, request: dict) -> dict:
        data = json.dumps(request).encode()
        self.send(f"PUB {subject} acks.{id(self)} {len(data)}\r\n".encode() + data + b"\r\n")
        return json.loads(self.answer())

    def publish(self, subject: str, size: int, under_way: int, seconds: float) -> int:
        """Records that were acknowledged."""
        record = f"PUB {subject} acks.{id(self)} {size}\r\n".encode() + b"x" * size + b"\r\n"
        some = max(under_way // 10, 1)
        end, sent, done = time.monotonic() + seconds, 0, 0
        while time.monotonic() < end:
            while sent - done <= under_way - some:
                self.send(record * some)
                sent += some
            assert b'"error"' not in self.answer()
            done += 1
        return done


def rate(fleet: Fleet, replicas: int, streams: int, size: int, under_way: int, seconds: float) -> float:
    """Records a second of all streams together."""
    port = fleet.servers[0].port
    setup, counts = Nats(port), [0] * streams
    for number in range(streams):
        name = f"s{number}"
        config = {"name": name, "subjects": [name], "storage": "file", "num_replicas": replicas, "max_bytes": 256 << 20, "discard": "old"}
        for _ in range(50):
            made = setup.ask(f"$JS.API.STREAM.CREATE.{name}", config)
            if "error" not in made:
                break
            time.sleep(0.2)
        assert "error" not in made, made

    def use(number: int) -> None:
        counts[number] = Nats(port).publish(f"s{number}", size, under_way, seconds)

    began = time.monotonic()
    threads = [threading.Thread(target=use, args=(number,)) for number in range(streams)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    took = time.monotonic() - began
    for number in range(streams):
        setup.ask(f"$JS.API.STREAM.DELETE.s{number}", {})
    return sum(counts) / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rates = json.loads((ROOT / "server/simulation/cards/nats.json").read_text())
    print("| replicas | streams | records of 300 bytes a second | MB a second in records of 128 KiB |\n|---|---|---|---|")
    for replicas in (1, 3):
        with tempfile.TemporaryDirectory() as folder:
            fleet = Fleet(Path("glimpse"), Path(folder))
            try:
                fleet.serve_nats() if replicas == 1 else fleet.serve_cluster()
                for streams in (1, 4):
                    records = rate(fleet, replicas, streams, RECORD, UNDER_WAY, args.seconds)
                    megabytes = rate(fleet, replicas, streams, PIECE, 16, args.seconds) * PIECE / 1e6
                    print(f"| {replicas} | {streams} | {records:,.0f} | {megabytes:,.0f} |", flush=True)
                    if streams == 1:
                        rates[f"records_{replicas}"] = round(records)
                        rates[f"bytes_{replicas}"] = round(megabytes * 1e6)
            finally:
                fleet.end()
    if args.out:
        args.out.write_text(json.dumps(rates, indent=2) + "\n")


if __name__ == "__main__":
    main()
