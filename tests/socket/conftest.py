"""A client of the wire that shares no code with Glimpse: Python's `websockets`, driven by what docs/protocol.md says."""

import hashlib
import io
import json
import random
import socket
import struct
import time
from collections import deque

import pytest
from fleets import Fleet
from PIL import Image, ImageDraw
from watching import TALKATIVE
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_socket

PIECE = 64 * 1024


class Client:
    """One session, over as many connections as it takes."""

    def __init__(self, url: str, hello: dict | None = None, wait: bool = True, **options):
        self.url, self.options = url, options
        # Every event ever seen, by number: a piece that came twice would show.
        self.events: dict[int, dict] = {}
        # What came and is still to be read.
        self.unread: deque[dict] = deque()
        self.session, self.welcome, self.ws = None, None, None
        self.connect(hello, wait)

    def connect(self, hello: dict | None = None, wait: bool = True) -> None:
        options = {"max_size": None, "compression": None, "close_timeout": 5} | self.options
        self.unread.clear()
        # Closed by `close`, `cut` or the server, not by a `with`.
        self.ws = open_socket(self.url, **options).__enter__()
        if hello is not None:
            self.send(type="hello", **hello)
        if wait:
            self.welcome = self.until("welcome", lambda m: hello is None or "resumed" in m or "token" in hello)
            self.session = self.welcome["session"]

    @property
    def last_event(self) -> int:
        return max(self.events, default=0)

    def resume(self, last_event: int | None = None) -> dict:
        """A new connection to the same session."""
        last = self.last_event if last_event is None else last_event
        self.connect({"resume": {"session": self.session, "last_event": last}})
        return self.welcome

    def cut(self) -> None:
        """As a lost network does it: no close frame, no goodbye."""
        try:
            self.ws.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # It was gone already.

    def close(self, code: int = 1000) -> None:
        self.ws.close(code)

    def send(self, **message) -> None:
        self.ws.send(json.dumps(message))

    def text(self, text: str) -> None:
        self.ws.send(text)

    def piece(self, upload: int, data: bytes) -> None:
        self.ws.send(struct.pack(">I", upload) + data)

    def torn_piece(self, upload: int, data: bytes, count: int) -> None:
        """The first `count` bytes, of a file, of a frame that ends there: the connection is of no use after it."""
        frame = RawSocket.frame(0x82, struct.pack(">I", upload) + data)
        self.ws.socket.sendall(frame[: len(frame) - len(data) + count])

    def recv(self, timeout: float = 30) -> dict:
        """The next message. Events come once, in order, without gaps."""
        message = self.unread.popleft() if self.unread else json.loads(self.ws.recv(timeout=timeout))
        number = message.get("event")
        if number is not None:
            assert number == self.last_event + 1, f"event {number} after {self.last_event}"
            self.events[number] = message
        return message

    def until(self, kind: str, match=lambda message: True, timeout: float = 60) -> dict:
        """The next message of a kind; what comes before it is in `events`."""
        end = time.monotonic() + timeout
        while True:
            message = self.recv(max(0.01, end - time.monotonic()))
            if message["type"] == kind and match(message):
                return message

    def ahead(self, kind: str, match=lambda message: True, timeout: float = 60) -> dict:
        """The next message of a kind, which is no event; what came before it is still to be read."""
        end = time.monotonic() + timeout
        while True:
            message = json.loads(self.ws.recv(timeout=max(0.01, end - time.monotonic())))
            if message["type"] == kind and match(message):
                return message
            self.unread.append(message)

    def error(self, code: str, timeout: float = 30) -> dict:
        """The next error, which must have this code."""
        message = self.until("error", timeout=timeout)
        assert message["code"] == code, message
        return message

    def closed(self, timeout: float = 30) -> int:
        """Reads until the server closes; its code."""
        end = time.monotonic() + timeout
        try:
            while True:
                self.recv(max(0.01, end - time.monotonic()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006

    def upload(self, number: int, data: bytes, **fields) -> None:
        """Announces a file and sends it, without waiting for anything."""
        self.send(type="upload", upload=number, bytes=len(data), **fields)
        for at in range(0, len(data), PIECE):
            self.piece(number, data[at : at + PIECE])

    def image(self, number: int, data: bytes) -> str:
        """Uploads a picture and waits until it is ready; its id."""
        self.upload(number, data)
        received = self.until("upload_received", lambda m: m["upload"] == number)
        assert received["sha256"] == hashlib.sha256(data).hexdigest()
        return self.until("image_ready", lambda m: m["image"] == received["image"])["image"]

    def ask(self, request: str, text: str, **fields) -> None:
        """Greedy, unless it says otherwise: the same question then has the same answer."""
        sampling = {"temperature": 0, "max_new_tokens": 48} | fields.pop("sampling", {})
        self.send(type="ask", request=request, text=text, sampling=sampling, **fields)

    def done(self, request: str, timeout: float = 120) -> dict:
        """Waits for the end of a request, which must be a `done`."""
        end = self.end(request, timeout)
        assert end["type"] == "done", end
        return end

    def end(self, request: str, timeout: float = 120) -> dict:
        seen = self.of(request)
        if seen and seen[-1]["type"] in ("done", "error"):
            return seen[-1]
        end = time.monotonic() + timeout
        while True:
            message = self.recv(max(0.01, end - time.monotonic()))
            if message["type"] in ("done", "error") and message.get("request") == request:
                return message

    def of(self, request: str) -> list[dict]:
        """All events of a request so far, in order."""
        return [m for _, m in sorted(self.events.items()) if m.get("request") == request]

    def answer(self, request: str) -> str:
        """The pieces, joined; numbered from 0 without gaps."""
        pieces = [m for m in self.of(request) if m["type"] == "token"]
        assert [m["index"] for m in pieces] == list(range(len(pieces)))
        return "".join(m["text"] for m in pieces)


@pytest.fixture
def connect(server):
    """`connect()` opens a client of the shared server; `connect(url)` of another. All are closed at the end."""
    clients = []

    def open_client(url: str | None = None, **options) -> Client:
        clients.append(Client(url or server.ws, **options))
        return clients[-1]

    yield open_client
    for client in clients:
        try:
            client.close()
        except (ConnectionClosed, OSError):
            pass


def scene(circles: int = 3, colour="red", size=(640, 480), format: str = "JPEG", **options) -> bytes:
    """Circles in a row, as a file's bytes."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    radius = size[0] // 12
    for i in range(circles):
        x, y = int(size[0] * (i + 0.6) / (circles + 0.6)), size[1] // 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.fixture(name="scene")
def scene_fixture():
    return scene


@pytest.fixture
def photo():
    """A picture file of its own for each number."""
    return lambda number: scene(circles=1 + number % 5, size=(640 + number, 480))


def noise(size, seed=0) -> bytes:
    """A JPEG that compresses badly, so that its upload takes many frames."""
    image = Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.fixture(name="noise")
def noise_fixture():
    return noise


class RawSocket:
    """A WebSocket by hand, to send what no client library would."""

    def __init__(self, port: int, source: str = "127.0.0.1"):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        self.sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.sock.recv(4096)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head

    @staticmethod
    def frame(first: int, payload: bytes, mask: bytes | None = b"\0\0\0\0", length: int | None = None) -> bytes:
        length = len(payload) if length is None else length
        flag = 0x80 if mask is not None else 0
        if length < 126:
            head = struct.pack("!BB", first, flag | length)
        elif length < 65536:
            head = struct.pack("!BBH", first, flag | 126, length)
        else:
            head = struct.pack("!BBQ", first, flag | 127, length)
        return head + (mask or b"") + payload

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            pass  # It may have been closed in the middle of this.

    def read(self, count: int) -> bytes:
        while len(self.buffer) < count:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def recv(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload; a server's frames are whole and not masked."""
        first, second = self.read(2)
        assert first & 0xF0 == 0x80 and second < 0x80, (first, second)
        length = second
        if length == 126:
            (length,) = struct.unpack("!H", self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.read(8))
        return first & 0x0F, self.read(length)

    def until(self, opcode: int) -> bytes:
        while True:
            got, payload = self.recv()
            if got == opcode:
                return payload

    def close_code(self) -> int:
        """Waits for the close frame and answers it; TCP must end after that."""
        payload = self.until(8)
        self.send(self.frame(0x88, payload[:2]))
        try:
            while True:
                self.recv()
        except (EOFError, ConnectionError):
            pass
        return struct.unpack("!H", payload[:2])[0]


@pytest.fixture
def raw(server):
    sockets = []

    def open_raw(port: int | None = None, **options) -> RawSocket:
        sockets.append(RawSocket(port or server.port, **options))
        return sockets[-1]

    yield open_raw
    for each in sockets:
        each.sock.close()


@pytest.fixture
def fleet(binary, tmp_path):
    fleet = Fleet(binary, tmp_path)
    yield fleet
    fleet.end()


@pytest.fixture(scope="module")
def alone(serve):
    """One process with everything in it, whose answers are what a fleet's must be."""
    server = serve(*TALKATIVE, "--threads", "1")
    server.wait_ready()
    return server
