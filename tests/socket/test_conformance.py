"""RFC 6455 by an implementation that is not ours: `wsproto` judges every byte that the server sends.

The cases are those of Autobahn's test suite that apply, under its numbers. Where that has an echo server, `ping` is asked for
its `pong`, which brings the same `t` back. What `wsproto` refuses to send is written by hand.
"""

import json
import random
import socket
import struct

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
FIN = 0x80


def frame(first: int, payload: bytes = b"", mask: bytes | None = b"\x37\xfa\x21\x3d") -> bytes:
    """Any frame, right or wrong."""
    flag = FIN if mask is not None else 0
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first, flag | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, flag | 126, length)
    else:
        head = struct.pack("!BBQ", first, flag | 127, length)
    if mask is None:
        return head + payload
    stream = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(length, "big")
    return head + mask + masked


def asking(t) -> bytes:
    return json.dumps({"type": "ping", "t": t}, ensure_ascii=False).encode()


class Peer:
    """A connection, read by wsproto."""

    def __init__(self, port: int, extensions=()):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.sock.sendall(
            self.ws.send(Request(host="localhost", target="/ws", subprotocols=["glimpse.v1"], extensions=list(extensions)))
        )
        self.events = []
        accepted = self.next(AcceptConnection)
        assert accepted.subprotocol == "glimpse.v1"
        self.extensions = accepted.extensions
        assert json.loads(self.text())["type"] == "welcome"

    def raw(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            pass  # It may have been closed in the middle of this.

    def read(self) -> bool:
        """Some more events; false at the end of the stream."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            return False
        self.ws.receive_data(data)
        # Pings are answered, and closing with it, as a good client does.
        for event in self.ws.events():
            if isinstance(event, Ping):
                self.raw(self.ws.send(event.response()))
            else:
                self.events.append(event)
        return True

    def next(self, kind):
        """The next event of this kind: texts, pongs and the end may pass each other."""
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            assert self.read(), f"the server left without {kind.__name__}: {self.events}"

    def text(self) -> str:
        text = ""
        while True:
            event = self.next(TextMessage)
            text += event.data
            if event.message_finished:
                return text

    def pong_of(self, t) -> None:
        message = json.loads(self.text())
        assert (message["type"], message["t"]) == ("pong", t)

    def closed(self) -> int:
        """The code of the server's close frame; after it the server ends the TCP connection."""
        close = self.next(CloseConnection)
        try:
            self.raw(self.ws.send(close.response()))
        except LocalProtocolError:
            pass  # We began it.
        while self.read():
            pass
        assert not [event for event in self.events if isinstance(event, CloseConnection)]
        return close.code


@pytest.fixture
def peer(server):
    peers = []

    def open_peer(**options) -> Peer:
        peers.append(Peer(server.port, **options))
        return peers[-1]

    yield open_peer
    for each in peers:
        each.sock.close()


# 1.*: messages of every length's form, whole and chopped.


@pytest.mark.parametrize("length", [125, 126, 127, 128, 65_535, 65_536, 65_537, 500_000])
def test_1_1_text_of_length(peer, length):
    t = "x" * (length - len(asking("")))
    peer = peer()
    peer.raw(frame(FIN | TEXT, asking(t)))
    peer.pong_of(t)
    peer.raw(peer.ws.send(TextMessage(data=asking("by wsproto").decode())))
    peer.pong_of("by wsproto")


def test_1_1_1_an_empty_text(peer):
    peer = peer()
    peer.raw(frame(FIN | TEXT))
    assert json.loads(peer.text())["code"] == "bad_json"


@pytest.mark.parametrize("length", [125, 126, 127, 65_535, 65_536])
def test_1_2_binary_of_length(peer, length):
    peer = peer()
    size = length - 4
    peer.raw(frame(FIN | TEXT, json.dumps({"type": "upload", "upload": 1, "bytes": size}).encode()))
    assert json.loads(peer.text())["type"] == "upload_accepted"
    peer.raw(peer.ws.send(BytesMessage(data=struct.pack(">I", 1) + bytes(size))))
    assert json.loads(peer.text())["bytes"] == size


@pytest.mark.parametrize("chop", [1, 2, 3, 997])
def test_1_1_8_in_chops(peer, chop):
    peer = peer()
    data = frame(FIN | TEXT, asking("chopped" * 20)) + frame(FIN | PING, b"p")
    for at in range(0, len(data), chop):
        peer.raw(data[at : at + chop])
    peer.pong_of("chopped" * 20)
    assert peer.next(Pong).payload == b"p"


# 2.*: pings and pongs.


@pytest.mark.parametrize("payload", [b"", b"Hello", b"\x00\xff\xfe\xfd\xfc", b"\xfe" * 125])
def test_2_pings_come_back(peer, payload):
    peer = peer()
    peer.raw(frame(FIN | PING, payload))
    assert peer.next(Pong).payload == payload


def test_2_7_pongs_nobody_asked_for(peer):
    peer = peer()
    peer.raw(frame(FIN | PONG) + frame(FIN | PONG, b"unasked") + frame(FIN | PING, b"asked"))
    assert peer.next(Pong).payload == b"asked"


def test_2_10_ten_pings_at_once(peer):
    peer = peer()
    peer.raw(b"".join(frame(FIN | PING, b"%d" % n) for n in range(10)))
    # Each is answered, or (5.5.3) only the latest so far.
    seen = [peer.next(Pong).payload]
    while seen[-1] != b"9":
        seen.append(peer.next(Pong).payload)
    assert seen == sorted(seen)


# 3.*, 4.*: reserved bits and opcodes, after a message that may or may not be answered before the end.


@pytest.mark.parametrize("reserved", [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_3_reserved_bits(peer, reserved, opcode):
    peer = peer()
    peer.raw(frame(FIN | TEXT, asking("good")) + frame(FIN | reserved | opcode, b""))
    assert peer.closed() == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_4_reserved_opcodes(peer, opcode, payload):
    peer = peer()
    peer.raw(frame(FIN | TEXT, asking("good")) + frame(FIN | opcode, payload))
    assert peer.closed() == 1002


def test_5_1_of_the_rfc_frames_are_masked(peer):
    peer = peer()
    peer.raw(frame(FIN | TEXT, asking("x"), mask=None))
    assert peer.closed() == 1002


# 5.*: fragmentation.


@pytest.mark.parametrize(
    "frames",
    [
        [frame(PING, b"a"), frame(FIN | CONTINUATION, b"b")],
        [frame(PONG, b"a"), frame(FIN | CONTINUATION, b"b")],
        [frame(FIN | CONTINUATION, b"nothing before")],
        [frame(CONTINUATION, b"nothing before")],
        [frame(FIN | TEXT, asking("whole")), frame(FIN | CONTINUATION, b"nothing open")],
        [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")],
        [frame(TEXT, b"{"), frame(BINARY, b"}")],
        [frame(TEXT, b"{"), frame(FIN | PING, b"x" * 126)],
    ],
)
def test_5_fragments_that_may_not_be(peer, frames):
    peer = peer()
    for each in frames:
        peer.raw(each)
    assert peer.closed() == 1002


@pytest.mark.parametrize("pieces", [2, 3, 10])
@pytest.mark.parametrize("between", [b"", frame(FIN | PING, b"between"), frame(FIN | PONG, b"unasked")])
def test_5_fragments_make_a_message(peer, pieces, between):
    peer = peer()
    whole = asking("in pieces")
    size = -(-len(whole) // pieces)
    parts = [whole[at : at + size] for at in range(0, len(whole), size)] + [b""]
    data = frame(TEXT, parts[0])
    for part in parts[1:-1]:
        data += between + frame(CONTINUATION, part)
    peer.raw(data + between + frame(FIN | CONTINUATION, parts[-1]))
    peer.pong_of("in pieces")
    if between.startswith(bytes([FIN | PING])):
        assert peer.next(Pong).payload == b"between"


# 6.*: UTF-8.

GOOD = ["κόσμε", "\x7f\u0080\u07ff\u0800\uffff\U00010000\U0010ffff", "\ufffd\ufeff\u2028", "🦀図"]
BAD = {
    "a lone continuation": b"\x80",
    "a lone start": b"\xc3",
    "overlong /": b"\xc0\xaf",
    "overlong NUL": b"\xe0\x80\x80",
    "overlong, four bytes": b"\xf0\x80\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "0xfe": b"\xfe",
    "0xff": b"\xff",
    "cut off": b"\xce\xba\xe1\xbd",
}


@pytest.mark.parametrize("text", GOOD)
def test_6_2_characters_may_be_cut_anywhere(peer, text):
    peer = peer()
    whole = asking(text)
    for cut in range(1, len(whole)):
        peer.raw(frame(TEXT, whole[:cut]) + frame(FIN | CONTINUATION, whole[cut:]))
        peer.pong_of(text)


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD)
@pytest.mark.parametrize("cut", [False, True])
def test_6_3_what_is_no_utf_8(peer, wrong, cut):
    peer = peer()
    whole = b'{"type":"ping","t":"' + wrong + b'"}'
    if cut:
        middle = 20 + len(wrong) // 2
        peer.raw(frame(TEXT, whole[:middle]) + frame(FIN | CONTINUATION, whole[middle:]))
    else:
        peer.raw(frame(FIN | TEXT, whole))
    assert peer.closed() == 1007


# 7.*: closing.


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_7_7_codes_that_may_be(peer, code):
    peer = peer()
    peer.raw(peer.ws.send(CloseConnection(code=code, reason="bye")))
    # 5.5.1: the answer "typically" has the same code; ours is 1000.
    assert peer.closed() in (code, 1000)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_7_9_codes_that_may_not_be(peer, code):
    peer = peer()
    peer.raw(frame(FIN | CLOSE, struct.pack("!H", code)))
    assert peer.closed() == 1002


def test_7_3_1_without_a_code(peer):
    peer = peer()
    peer.raw(frame(FIN | CLOSE))
    assert peer.closed() in (1000, 1005)


@pytest.mark.parametrize(
    "payload, code",
    [
        (b"x", 1002),
        (struct.pack("!H", 1000) + b"x" * 124, 1002),
        (struct.pack("!H", 1000) + b"\xce\xba\xe1\xbd", 1002),
    ],
    ids=["one byte", "too long", "a reason that is no UTF-8"],
)
def test_7_3_close_frames_that_may_not_be(peer, payload, code):
    peer = peer()
    peer.raw(frame(FIN | CLOSE, payload))
    assert peer.closed() == code


def test_7_3_5_the_longest_reason(peer):
    peer = peer()
    peer.raw(frame(FIN | CLOSE, struct.pack("!H", 1000) + "é".encode() * 61 + b"x"))
    assert peer.closed() == 1000


def test_7_1_what_comes_after_the_close_is_not_heard(peer):
    peer = peer()
    peer.raw(
        frame(FIN | CLOSE, struct.pack("!H", 1000))
        + frame(FIN | TEXT, asking("late"))
        + frame(FIN | PING, b"late")
        + frame(FIN | CLOSE, struct.pack("!H", 1001))
    )
    assert peer.closed() == 1000
    assert not peer.events


# 9.*, 10.*: limits.


@pytest.mark.parametrize("fragment", [None, 50_000, 1_000_000])
def test_9_messages_that_are_too_long(peer, fragment):
    peer = peer()
    payload = b" " * 3_000_000
    if fragment is None:
        peer.raw(frame(FIN | TEXT, payload))
    else:
        peer.raw(frame(TEXT))
        for at in range(0, len(payload), fragment):
            peer.raw(frame(CONTINUATION, payload[at : at + fragment]))
    assert peer.closed() == 1009


def test_9_the_longest_message(peer):
    peer = peer()
    limit = 2 * 1024 * 1024
    whole = asking("x")
    peer.raw(frame(FIN | TEXT, whole + b" " * (limit - len(whole))))
    peer.pong_of("x")


# 12.*, 13.*: permessage-deflate is not there, so it is neither agreed on nor taken.


def test_12_compression_is_not_agreed_on(peer):
    peer = peer(extensions=[PerMessageDeflate()])
    assert peer.extensions == []
    peer.raw(frame(FIN | 0x40 | TEXT, b"\xaaV*\xa9,HU\xb2R*(\xcdK\x07\x00"))
    assert peer.closed() == 1002


def test_random_bytes_end_a_connection_and_nothing_else(peer):
    """Whatever comes, the server answers within the rules, or closes."""
    numbers = random.Random(7)
    for _ in range(60):
        each = peer()
        each.raw(numbers.randbytes(numbers.randrange(2, 400)))
        # No frame that is still open must keep us waiting.
        each.sock.shutdown(socket.SHUT_WR)
        while each.read():
            pass
        codes = [event.code for event in each.events if isinstance(event, CloseConnection)]
        assert all(code in (1000, 1002, 1005, 1006, 1007, 1009) or 3000 <= code < 5000 for code in codes), codes
    last = peer()
    last.raw(frame(FIN | TEXT, asking("still here")))
    last.pong_of("still here")
