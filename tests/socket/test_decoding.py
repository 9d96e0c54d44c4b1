"""Pictures made to break, fill or hold up their decoder: what becomes of them, and what others see meanwhile."""

import io
import os
import signal
import struct
import zlib
from pathlib import Path

import pytest
from decoding import MIB, children, decodes, either, idle, peak_of, slow_jpeg
from PIL import Image
from watching import wait_for

BAD = {"image_unsupported", "image_broken", "image_too_large"}


def exif(entries: list[bytes], tail: bytes = b"") -> bytes:
    """A TIFF block, little-endian, with one directory of these entries."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0" + tail


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def nested_exif(pointers: int) -> bytes:
    """So many pointers, twelve bytes apart, into directories of 65,535 entries each."""
    first = 8 + 2 + 12 * pointers + 4
    entries = [entry(0x8769, 4, 1, first + 12 * number) for number in range(pointers)]
    return exif(entries, (b"\xff\xff" + b"\x01" * 10) * pointers + b"\x02" * (65_535 * 12))


def jpeg_with(block: bytes) -> bytes:
    plain = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(plain, "JPEG")
    block = b"Exif\0\0" + block[:65_000]
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain.getvalue()[2:]


def png_with(block: bytes) -> bytes:
    plain = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(plain, "PNG")
    chunk = b"eXIf" + block
    chunk = struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return plain.getvalue()[:33] + chunk + plain.getvalue()[33:]


def typed_ascii(length: int) -> bytes:
    return exif([entry(0x0112, 2, length, 26)], b"\0" * length)


def same_strips(count: int) -> bytes:
    """A TIFF whose strips are all one JPEG, which is much larger than any of them."""
    jpeg = io.BytesIO()
    Image.new("L", (8192, 8192), 120).save(jpeg, "JPEG", quality=10)
    jpeg = jpeg.getvalue()
    tables = 8 + 2 + 12 * 9 + 4
    offsets, counts = tables, tables + 4 * count
    data = counts + 4 * count
    entries = [
        entry(256, 4, 1, 8),
        entry(257, 4, 1, count),
        entry(258, 3, 1, 8),
        entry(259, 3, 1, 7),
        entry(262, 3, 1, 1),
        entry(273, 4, count, offsets),
        entry(277, 3, 1, 1),
        entry(278, 4, 1, 1),
        entry(279, 4, count, counts),
    ]
    return exif(entries, struct.pack("<I", data) * count + struct.pack("<I", len(jpeg)) * count + jpeg)


def wide_tiles() -> bytes:
    """A TIFF of 8 × 8 in deflated tiles 2^26 wide."""
    tile = zlib.compress(b"\0" * (1 << 22), 9)
    data = 8 + 2 + 12 * 10 + 4
    entries = [
        entry(256, 4, 1, 8),
        entry(257, 4, 1, 8),
        entry(258, 3, 1, 8),
        entry(259, 3, 1, 8),
        entry(262, 3, 1, 1),
        entry(277, 3, 1, 1),
        entry(322, 4, 1, 1 << 26),
        entry(323, 4, 1, 16),
        entry(324, 4, 1, data),
        entry(325, 4, 1, len(tile)),
    ]
    return exif(entries, tile)


def float_tiff(side: int) -> bytes:
    """A TIFF that says it has side² pixels of four floats, and brings one strip of zeros for it all."""
    data = 8 + 2 + 12 * 11 + 4
    row = side * 16
    entries = [
        entry(256, 4, 1, side),
        entry(257, 4, 1, side),
        entry(258, 3, 1, 32),
        entry(259, 3, 1, 1),
        entry(262, 3, 1, 2),
        entry(273, 4, 1, data),
        entry(277, 3, 1, 4),
        entry(278, 4, 1, side),
        entry(279, 4, 1, row),
        entry(338, 3, 1, 2),
        entry(339, 3, 1, 3),
    ]
    return exif(entries, b"\0" * row)


@pytest.fixture
def decoding(serve):
    """`decoding(*flags)` starts a server with two decoders and waits for it; each ends with its test."""
    started = []

    def start(*flags: str):
        started.append(serve("--decoders", "2", *flags))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for server in started:
        server.stop()


# The file, and whether it is a good picture all the same.
ATTACKS = {
    "exif pointers in a TIFF": (lambda: nested_exif(3000), False),
    "exif pointers in a JPEG": (lambda: jpeg_with(nested_exif(3000)), True),
    "exif pointers in a PNG": (lambda: png_with(nested_exif(3000)), True),
    "an orientation of 60 million letters": (lambda: typed_ascii(60_000_000), False),
    "60,000 strips that are one large JPEG": (lambda: same_strips(60_000), False),
    "tiles wider than any picture": (wide_tiles, False),
    "a hundred million pixels of floats": (lambda: float_tiff(10_000), False),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_picture_made_to_break_its_decoder_breaks_nothing_else(decoding, connect, photo, name):
    """It is read or refused; the server's memory stays as it is, its decoders within bounds, and others' pictures are read."""
    server = decoding()
    pid = server.process.pid
    client, other = connect(server.ws), connect(server.ws)
    other.image(1, photo(1))
    client.image(1, photo(2))
    before = peak_of(pid)
    make, is_good = ATTACKS[name]
    file = make()
    client.upload(2, file)
    client.until("upload_received", lambda m: m["upload"] == 2)
    other.image(2, photo(3))
    end = either(client, "image_ready", "error")
    assert (end["type"] == "image_ready") == is_good, end
    assert is_good or end["code"] in BAD, end
    # The file itself, and what looking at another picture takes.
    assert peak_of(pid) - before < len(file) + 64 * MIB
    decoders = wait_for(lambda: len(children(pid)) == 2 and children(pid))
    assert all(peak_of(decoder) < 600 * MIB for decoder in decoders)
    client.image(3, photo(4))


def test_one_client_does_not_hold_up_anothers_picture(decoding, connect, photo, tmp_path):
    """Pictures that take long, of many sessions of one key: another's is decoded beside them, not behind them."""
    keys = tmp_path / "keys"
    keys.write_text("greedy-key-0123456789\nmodest-key-0123456789\n")
    server = decoding("--api-key-file", str(keys))
    slow = slow_jpeg(3000)
    greedy = [connect(server.ws, hello={"token": "greedy-key-0123456789"}) for _ in range(4)]
    modest = connect(server.ws, hello={"token": "modest-key-0123456789"})
    for client in greedy:
        for number in range(1, 3):
            # Each is another file: one byte behind its end.
            client.upload(number, slow + bytes([number]))
    for client in greedy:
        client.until("upload_received", lambda m: m["upload"] == 2)
    modest.image(1, photo(1))
    assert decodes(server, "modest-key-0123456789")["waiting"], "the greedy one's were done before: nothing was proven"
    for client in greedy:
        client.close()


def test_forgotten_work_leaves_the_line(decoding, connect, photo):
    """`forget` and the end of a session take waiting and running decodes with them."""
    server = decoding()
    client = connect(server.ws)
    slow = slow_jpeg(3000)
    images = []
    for number in range(1, 4):
        client.upload(number, slow + bytes([number]))
        images.append(client.until("upload_received", lambda m, n=number: m["upload"] == n)["image"])
    for image in images:
        client.send(type="forget", image=image)
        client.until("forgotten", lambda m, i=image: m.get("image") == i)
    wait_for(lambda: idle(server))
    for number in range(4, 8):
        client.upload(number, slow + bytes([number]))
    client.until("upload_received", lambda m: m["upload"] == 7)
    client.close()
    wait_for(lambda: idle(server))
    connect(server.ws).image(1, photo(1))


def test_a_decode_has_a_bound_on_its_time(decoding, connect):
    client = connect(decoding("--decode-seconds", "0.05").ws)
    client.upload(1, slow_jpeg(4000))
    error = client.error("image_too_large", timeout=120)
    assert "longer to decode" in error["message"], error


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_decoder_that_dies_is_replaced(decoding, connect, photo, how):
    server = decoding()
    client = connect(server.ws)
    client.image(1, photo(1))
    for decoder in children(server.process.pid):
        os.kill(decoder, how)
    # Whoever's picture is given to a dead one is told so.
    ends = []
    for number in range(2, 12):
        client.upload(number, photo(number))
        ends.append(either(client, "image_ready", "error"))
    assert ends[-1]["type"] == "image_ready", ends
    assert all(end.get("code") in (None, "image_broken", "busy") for end in ends), ends
    wait_for(lambda: len(children(server.process.pid)) == 2)


def test_decoders_end_with_their_server(decoding, connect, photo):
    server = decoding()
    connect(server.ws).image(1, photo(1))
    decoders = children(server.process.pid)
    assert len(decoders) == 2
    server.process.kill()
    server.process.wait()

    def is_there(pid: int) -> bool:
        try:
            return b"decoder" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False

    wait_for(lambda: not any(map(is_there, decoders)))


def test_without_processes_pictures_are_read_as_well(decoding, connect, photo):
    server = decoding("--image-process", "off")
    assert children(server.process.pid) == []
    client = connect(server.ws)
    client.image(1, photo(1))
    client.upload(2, b"no picture")
    client.error("image_unsupported")
