"""The main thread stays free, whatever is dropped on it."""

import io

import pytest
from PIL import Image, ImageDraw

from driving import ask, card, give, picture, watch_long_tasks

@pytest.fixture(scope="module")
def photo():
    """48 megapixels and about 20 MB, as a phone would write it: with a thumbnail in its metadata."""
    width, height = 8000, 6000
    noise = Image.effect_noise((2000, 1500), 60).convert("RGB").resize((width, height), Image.NEAREST)
    draw = ImageDraw.Draw(noise)
    for i in range(3):
        x = 1600 + 2400 * i
        draw.ellipse((x - 700, 2300, x + 700, 3700), fill="red")
    small = io.BytesIO()
    noise.resize((160, 120)).save(small, "JPEG")
    thumbnail = small.getvalue()
    # IFD0 with no entries, IFD1 with the thumbnail's place and length.
    tiff = b"II*\0\x08\0\0\0" + b"\0\0" + (14).to_bytes(4, "little") + b"\x02\0"
    place = len(tiff) + 2 * 12 + 4
    tiff += b"\x01\x02\x04\0\x01\0\0\0" + place.to_bytes(4, "little")
    tiff += b"\x02\x02\x04\0\x01\0\0\0" + len(thumbnail).to_bytes(4, "little") + b"\0\0\0\0"
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=88, exif=b"Exif\0\0" + tiff + thumbnail)
    data = out.getvalue()
    assert len(data) > 12_000_000
    return data


LOOK = """() => {
    window.marks = {};
    document.querySelector('input[type=file]').addEventListener('change', (e) => { window.marks = {dropped: e.timeStamp}; });
    const look = () => {
        const now = performance.now();
        const name = document.querySelector('.file .name');
        if (window.marks.dropped && name && name.innerText === 'photo.jpg') {
            window.marks.received ??= now - window.marks.dropped;
            if (document.querySelector('[data-testid=preview]')) window.marks.preview ??= now - window.marks.dropped;
        }
        requestAnimationFrame(look);
    };
    look();
}"""


def test_a_great_photo_while_an_answer_streams(open_page, circles, photo, tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    page = open_page()
    watch_long_tasks(page)
    # A busy machine may hold up a task that takes little by itself: one quiet run of three is proof.
    for attempt in range(3):
        give(page, circles)
        card(page, "ready").wait_for()
        page.evaluate(LOOK)
        page.evaluate("() => { window.long.length = 0; }")
        ask(page, "What is in the picture?")
        give(page, str(file))
        page.wait_for_function("() => window.marks.preview")
        card(page, "ready").wait_for()
        long, marks = page.evaluate("() => [window.long, window.marks]")
        if not long and marks["received"] <= 100 and marks["preview"] <= 2000:
            break
        page.get_by_test_id("new").click()
    assert not long
    assert marks["received"] <= 100
    assert marks["preview"] <= 2000
    # The whole photo is never handed to an <img>.
    assert page.evaluate("() => [...document.images].every((i) => i.naturalWidth <= 1280)")


def test_the_same_picture_is_not_sent_again(open_page, circles):
    page = open_page()
    page.evaluate(
        """() => {
            window.sent = 0;
            const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function (data) {
                if (typeof data !== 'string') window.sent += data.byteLength;
                return send.call(this, data);
            };
        }"""
    )
    give(page, circles)
    card(page, "ready").wait_for()
    once = page.evaluate("() => window.sent")
    assert once > len(circles["buffer"])
    page.get_by_test_id("new").click()
    give(page, {**circles, "name": "again.png"})
    card(page, "ready").wait_for()
    assert page.evaluate("() => window.sent") == once
    # Another picture of the same size in bytes is.
    other = bytearray(picture(colour="blue"))
    other += bytes(max(0, len(circles["buffer"]) - len(other)))
    give(page, {"name": "other.png", "mimeType": "image/png", "buffer": bytes(other)})
    card(page, "ready").wait_for()
    assert page.evaluate("() => window.sent") > once


def test_always_scaled_where_the_user_wants_it(open_page, photo, tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    page = open_page()
    page.get_by_test_id("settings").click()
    page.get_by_text("Always", exact=True).click()
    page.keyboard.press("Escape")
    page.evaluate(
        """() => {
            window.sent = 0;
            const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function (data) {
                if (typeof data !== 'string') window.sent += data.byteLength;
                return send.call(this, data);
            };
        }"""
    )
    give(page, str(file))
    card(page, "ready").wait_for(timeout=60_000)
    assert page.evaluate("() => window.sent") < len(photo) / 4
