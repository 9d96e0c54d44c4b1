"""Pictures on their way: sizes, hashes, interleaving, stopping, forgetting."""

import hashlib
import io
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from watching import metrics, peak, wait_for

PIECE = 64 * 1024
PICTURES = Path(__file__).parents[1] / "pixels"


def test_progress_is_told_and_pieces_interleave(connect, noise):
    client = connect()
    first, second = noise((1200, 900), 1), noise((1200, 900), 2)
    assert len(first) > 600_000
    client.send(type="upload", upload=1, bytes=len(first))
    client.send(type="upload", upload=2, bytes=len(second))
    for at in range(0, max(len(first), len(second)), PIECE):
        for number, data in ((1, first), (2, second)):
            if data[at : at + PIECE]:
                client.piece(number, data[at : at + PIECE])
    seen = []
    while sum(m["type"] == "image_ready" for m in seen) < 2:
        seen.append(client.recv())
    for number, data in ((1, first), (2, second)):
        mine = [m for m in seen if m.get("upload") == number]
        assert mine[0]["type"] == "upload_accepted" and mine[0]["received"] == 0
        assert mine[-1]["type"] == "upload_received"
        assert mine[-1]["sha256"] == hashlib.sha256(data).hexdigest()
        offsets = [m["received"] for m in mine[1:-1]]
        assert len(offsets) >= 2 and offsets == sorted(offsets)
        assert max(b - a for a, b in zip([0, *offsets], [*offsets, len(data)])) <= 256 * 1024 + PIECE


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(connect, scene, format):
    client = connect()
    client.upload(1, scene(format=format))
    ready = client.until("image_ready")
    assert (ready["format"], ready["width"], ready["height"]) == (format.lower(), 640, 480)


def test_formats_are_told_and_heic_and_avif_are_among_them(connect):
    client = connect()
    assert client.welcome["formats"] == ["jpeg", "png", "webp", "gif", "bmp", "tiff", "heic", "avif"]
    for number, format in enumerate(("heic", "avif"), 1):
        client.upload(number, (PICTURES / "heif" / f"grid-irot.{format}").read_bytes())
        ready = client.until("image_ready")
        assert (ready["format"], ready["width"], ready["height"]) == (format, 100, 200)
        assert "frame" not in ready


def test_an_animations_frame_with_something_on_it_is_taken(connect):
    frames = [Image.new("RGBA", (64, 48), colour) for colour in ((0, 0, 0, 0), (0, 0, 0, 0), (250, 0, 0, 255))]
    frames[1].putpixel((0, 0), (0, 0, 0, 255))
    out = io.BytesIO()
    frames[0].save(out, "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    client = connect()
    client.upload(1, out.getvalue())
    ready = client.until("image_ready")
    assert (ready["format"], ready["frame"]) == ("webp", 2)


def test_a_photo_taken_sideways_is_upright(connect):
    image, out, exif = Image.new("RGB", (80, 40)), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    image.save(out, "JPEG", exif=exif)
    client = connect()
    client.upload(1, out.getvalue())
    ready = client.until("image_ready")
    assert (ready["width"], ready["height"]) == (40, 80)


def test_the_same_picture_is_not_sent_again(connect, scene):
    client = connect()
    data = scene()
    image = client.image(1, data)
    client.until("image_encoded")
    client.send(type="upload", upload=2, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    for kind in ("upload_received", "image_ready", "image_encoded"):
        message = client.recv()
        assert (message["type"], message["image"], message["cached"]) == (kind, image, True)
    # Another session knows nothing of it.
    other = connect()
    other.send(type="upload", upload=1, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert other.until("upload_accepted")["received"] == 0


def test_lies_about_size_and_hash(connect, scene):
    client = connect()
    data = scene()
    client.upload(1, data, sha256="0" * 64)
    assert client.error("hash_mismatch")["upload"] == 1
    client.send(type="upload", upload=2, bytes=10)
    client.piece(2, b"x" * 11)
    assert client.error("upload_length")["upload"] == 2
    client.piece(2, b"late frames are dropped")
    client.send(type="upload", upload=3, bytes=client.welcome["limits"]["upload_bytes"] + 1)
    assert client.error("upload_too_large")["upload"] == 3
    client.piece(3, b"these too")
    client.send(type="upload", upload=1, bytes=5)
    assert "upload" not in client.error("upload_number_used")
    # And the session goes on.
    client.image(4, data)


def test_frames_that_belong_to_nothing(connect):
    client = connect()
    for _ in range(3):
        client.piece(77, b"x")
    client.error("bad_frame")
    client.ws.send(b"abc")
    client.error("bad_frame")
    client.ws.send(b"\0\0\0\1")
    client.error("bad_frame")
    client.ws.send(b"\0\0\0\1" + bytes(PIECE + 1))
    client.error("bad_frame")
    client.send(type="ping", t="still here")
    assert client.recv()["t"] == "still here"


def test_too_many_uploads(connect):
    client = connect()
    most = client.welcome["limits"]["open_uploads"]
    for number in range(most + 1):
        client.send(type="upload", upload=number, bytes=10)
    refused = client.error("too_many_uploads")
    assert refused["upload"] == most and refused["retry_after_ms"] > 0
    client.send(type="cancel", upload=0)
    assert client.error("upload_cancelled")["upload"] == 0
    client.send(type="upload", upload=most + 1, bytes=10)
    assert client.until("upload_accepted")["upload"] == most + 1


def test_a_cancelled_upload_takes_its_question_along(connect):
    client = connect()
    client.send(type="upload", upload=1, bytes=1000)
    client.ask("a", "What is it?", upload=1)
    queued = client.until("queued")
    assert queued["position"] is None
    client.send(type="cancel", upload=1)
    assert client.error("upload_cancelled")["upload"] == 1
    assert client.error("upload_cancelled")["request"] == "a"


@pytest.mark.parametrize(
    "data, code",
    [
        (b"", "image_unsupported"),
        (b"hello", "image_unsupported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_unsupported"),
        (b"%PDF-1.7", "image_unsupported"),
    ],
)
def test_what_is_no_picture(connect, data, code):
    client = connect()
    client.upload(1, data)
    received = client.until("upload_received")
    assert received["bytes"] == len(data)
    error = client.error(code)
    assert error["image"] == received["image"]
    client.ask("a", "What is it?", image=received["image"])
    assert client.error(code)["request"] == "a"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_off_pictures(connect, scene, format):
    """Half a file is an answer or an error, never silence; and never the end of the session."""
    client = connect()
    whole = scene(format=format)
    for number, share in enumerate((0.02, 0.1, 0.5, 0.9)):
        client.upload(number, whole[: int(len(whole) * share)])
        received = client.until("upload_received")
        while True:
            message = client.recv()
            if message.get("image") != received["image"]:
                continue
            if message["type"] == "error":
                assert message["code"] in ("image_broken", "image_unsupported"), message
                break
            if message["type"] == "image_ready":
                break
    client.image(100, whole)


def test_a_decompression_bomb_is_refused_by_its_header(serve, connect):
    """30,000 × 30,000 pixels in 100 KB: refused before a pixel is decoded, so no memory is taken for one."""
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG", optimize=True)
    server = serve()
    server.wait_ready()
    client = connect(server.ws)
    assert 30_000**2 > client.welcome["limits"]["image_pixels"]
    before = peak(server)
    client.upload(1, out.getvalue())
    client.error("image_too_large")
    # A bit for each pixel would be 110 MiB.
    assert peak(server) - before < 32 * 1024


def test_forget_says_when_it_is_gone(connect, scene):
    client = connect()
    image = client.image(1, scene())
    client.ask("a", "How many?", image=image)
    conversation = client.done("a")["conversation"]
    client.send(type="forget", conversation=conversation)
    assert client.until("forgotten")["conversation"] == conversation
    client.ask("b", "How many?", conversation=conversation)
    client.error("unknown_conversation")
    client.send(type="forget", image=image)
    assert client.until("forgotten")["image"] == image
    client.ask("c", "How many?", image=image)
    client.error("image_gone")
    # It has to be sent again in full.
    client.send(type="upload", upload=2, bytes=len(scene()), sha256=hashlib.sha256(scene()).hexdigest())
    client.until("upload_accepted")
    for what in ({"image": "img_none"}, {"conversation": "conv_none"}):
        client.send(type="forget", **what)
        client.until("error", lambda m: m["code"].startswith("unknown_"))


def test_a_forgotten_conversation_frees_its_memory(serve, connect):
    """What `forgotten` says is so: the cache's pages are free again."""
    server = serve()
    server.wait_ready()

    def used() -> float:
        return sum(value for name, value in metrics(server).items() if name.startswith("glimpse_cache_used_bytes"))

    client = connect(server.ws)
    before = used()
    client.ask("a", "Tell me something long. " * 40)
    conversation = client.done("a")["conversation"]
    assert used() > before
    client.send(type="forget", conversation=conversation)
    client.until("forgotten")
    # The gauge is told after the command, in the worker's own time.
    wait_for(lambda: used() == before)


def test_pictures_of_many_sessions_stay_within_memory(serve, connect, scene):
    """Small files have as many pixels as big ones: what is kept of them is bounded for the whole server."""
    most = 4 << 20
    server = serve("--picture-memory", "4MiB", "--resume-seconds", "300")
    server.wait_ready()

    def kept() -> float:
        return metrics(server)["glimpse_picture_memory_bytes"]

    guest = connect(server.ws)
    image = guest.image(1, scene(2))
    for session in range(4):
        client = connect(server.ws)
        for number in range(8):
            client.image(number, scene(1, colour=(session, number, 0), size=(48, 48)))
            assert kept() <= most
        client.cut()
        wait_for(lambda: metrics(server)["glimpse_connections"] == 1)
    assert kept() > most / 2
    # Those that nobody is there for went first.
    guest.ask("a", "How many circles are there?", image=image)
    guest.done("a")
    before = kept()
    client.resume()
    client.close()
    # The other sessions' pictures are what is left.
    wait_for(lambda: kept() < before)
