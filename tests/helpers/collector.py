"""An OpenTelemetry collector, as far as a test needs one: it takes OTLP over HTTP (protobuf) and keeps the spans."""

import struct
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = "0" * 16


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict


def fields(message: bytes) -> dict[int, list]:
    """A protobuf message's fields by their numbers: https://protobuf.dev/programming-guides/encoding/"""
    found: dict[int, list] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            value = varint()
        else:
            length = {1: 8, 5: 4}.get(kind) or varint()
            value = message[at : at + length]
            at += length
        found.setdefault(number, []).append(value)
    return found


def attributes(pairs: list[bytes]) -> dict:
    """`KeyValue`s: strings, truth values, whole and other numbers."""
    known = {}
    for pair in map(fields, pairs):
        ((kind, (value,)),) = fields(pair[2][0]).items()
        read = {1: bytes.decode, 2: bool, 3: int, 4: lambda bits: struct.unpack("<d", bits)[0]}[kind]
        known[pair[1][0].decode()] = read(value)
    return known


def spans(request: bytes) -> list[Span]:
    """An `ExportTraceServiceRequest`'s: opentelemetry/proto/trace/v1/trace.proto."""
    found = []
    for resource in map(fields, fields(request).get(1, [])):
        service = attributes(fields(resource[1][0])[1])["service.name"]
        for scope in map(fields, resource[2]):
            for span in map(fields, scope[2]):
                found.append(
                    Span(
                        service,
                        span[5][0].decode(),
                        span[1][0].hex(),
                        span[2][0].hex(),
                        span.get(4, [b""])[0].hex() or ROOT,
                        *(int.from_bytes(span[number][0], "little") for number in (7, 8)),
                        attributes(span.get(9, [])),
                    )
                )
    return found


class Collector:
    """Use it with `with`; what came is in `spans`."""

    def __init__(self):
        self.spans: list[Span] = []
        kept = self.spans

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    kept.extend(spans(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def of(self, service: str, name: str, **attributes) -> list[Span]:
        """Those of a process by their names, and by what they say of themselves."""
        named = [span for span in list(self.spans) if (span.service, span.name) == (service, name)]
        return [span for span in named if attributes.items() <= span.attributes.items()]
