"""The main thread stays free, whatever is dropped on it."""

import io
import json
import time

import pytest
from PIL import Image, ImageDraw

from driving import ask, card, ended, give, picture, until
from fake import LIMITS


@pytest.fixture(scope="module")
def photo():
    """48 megapixels and about 20 MB, as a phone would write it: with a thumbnail in its metadata."""
    width, height = 8000, 6000
    noise = Image.effect_noise((4000, 3000), 44).convert("RGB").resize((width, height), Image.NEAREST)
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
    assert len(data) > 20_000_000
    return data


LOOK = """() => {
    window.marks = {frames: 0, widths: []};
    document.querySelector('input[type=file]').addEventListener('change', () => { window.marks.dropped = performance.now(); });
    const look = () => {
        const name = document.querySelector('.file .name');
        if (window.marks.dropped && name?.innerText === 'photo.jpg') {
            window.marks.received ??= window.marks.frames;
            const preview = document.querySelector('[data-testid=preview]');
            if (preview?.naturalWidth > 0) window.marks.widths.push(preview.naturalWidth);
            if (preview?.naturalWidth > 160) window.marks.preview = true;
        }
        window.marks.frames += window.marks.dropped ? 1 : 0;
        requestAnimationFrame(look);
    };
    look();
}"""


# The answer goes on and on: more words for the question asked last, through the page's own socket. And what is sent is
# watched: how much the browser held back at the most.
STREAM = """() => {
    const send = WebSocket.prototype.send;
    window.held = 0;
    WebSocket.prototype.send = function (data) {
        const sent = send.call(this, data);
        if (typeof data !== 'string') window.held = Math.max(window.held, this.bufferedAmount);
        else if (data.includes('"ask"')) [window.socket, window.request] = [this, JSON.parse(data).request];
        return sent;
    };
    let index = 1000;
    setInterval(() => {
        if (!window.request) return;
        const message = {type: 'token', at: 0, request: window.request, index: index++, text: 'word '};
        window.socket.dispatchEvent(new MessageEvent('message', {data: JSON.stringify(message)}));
    }, 5);
}"""


def tasks(trace, thread):
    """What the renderer's threads of such a name did, in ms of their own processor time: how long they waited for a core is not in
    it."""
    events = json.loads(trace)["traceEvents"]
    named = [e for e in events if e["name"] == "thread_name"]
    renderers = {e["pid"] for e in named if e["args"]["name"] == "CrRendererMain"}
    threads = {(e["pid"], e["tid"]) for e in named if e["args"]["name"].startswith(thread) and e["pid"] in renderers}
    return [e["tdur"] / 1e3 for e in events if "tdur" in e and e["name"].endswith("RunTask") and (e["pid"], e["tid"]) in threads]


def longest_task(trace):
    """Of the page's main thread."""
    of_main = tasks(trace, "CrRendererMain")
    assert len(of_main) > 50
    return max(of_main)


def test_a_great_photo_while_an_answer_streams(browser, open_page, circles, photo, tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    page = open_page()
    page.evaluate(STREAM)
    give(page, circles)
    card(page, "ready").wait_for()
    turn = ask(page, "What is in the picture?")
    turn.get_by_text("word word word").first.wait_for()
    page.evaluate(LOOK)
    began = time.thread_time()
    Image.open(file).load()
    ordinary = 1e3 * (time.thread_time() - began)
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    give(page, str(file))
    page.wait_for_function("() => window.marks.preview")
    card(page, "ready").wait_for()
    trace = browser.stop_tracing()
    longest = longest_task(trace)
    marks = page.evaluate("() => window.marks")
    # A decoder needs half a second and more of a processor for this photo: the main thread has no part in that.
    assert longest < 50, longest
    # It stands there in the frame that comes after the choice, or the one after.
    assert marks["received"] <= 1, marks["received"]
    # To read, hash, decode and scale it takes some decodes of a processor, and no more: not that of the main thread.
    behind = sum(tasks(trace, "DedicatedWorker")) + sum(tasks(trace, "ThreadPool"))
    assert ordinary / 2 < behind < 20 * ordinary, (behind, ordinary)
    # The camera's own thumbnail stood there first.
    assert marks["widths"][0] == 160
    # A "stop" would not have been stuck behind the picture.
    assert page.evaluate("() => window.held") <= 256 * 1024
    # The whole photo is never handed to an <img>.
    assert page.evaluate("() => [...document.images].every((i) => i.naturalWidth <= 1280)")


def test_the_preview_waits_for_no_upload(faked, photo, tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    # Nothing of what comes is confirmed: so of twenty megabytes one is sent, and no more. A server that stands in the test's own
    # thread may be late, and the page then asks why.
    page, fake = faked(with_picture=False, frame=lambda f, m: None, tolerate=("WebSocket", "405"))
    page.evaluate(LOOK)
    give(page, str(file))
    page.wait_for_function("() => window.marks.preview")
    assert len(fake.picture) <= LIMITS["upload_window"] < len(photo)


ROW = "| a | row | of 3 |\n"
BLOCK = """## Part {i}

Some **bold** and *other* words with `code` and $x_{i}^2$ in a paragraph that goes on for a while.

- one thing
- another

```python
print({i})
```

"""


@pytest.mark.parametrize("kind", ["blocks", "one paragraph", "one table"])
def test_a_long_answer_never_holds_the_page(browser, faked, kind):
    page, fake = faked(ask=lambda f, m: (f.queued(m), f.send("started", request=m["request"])))
    turn = ask(page, "Tell me all.")
    until(page, fake.asks)
    text = {
        "blocks": "".join(BLOCK.replace("{i}", str(i)) for i in range(120)),
        "one paragraph": "word " * 4000,
        "one table": "| a | b | c |\n|---|---|---|\n" + ROW * 570,
    }[kind].strip()
    tokens = [text[at : at + max(1, len(text) // 4000)] for at in range(0, len(text), max(1, len(text) // 4000))]
    assert len(tokens) >= 4000
    message = fake.asks()[-1]
    # The module that draws it is there.
    fake.send("token", request=message["request"], index=0, text=tokens[0])
    turn.locator("[data-testid=answer] > *").first.wait_for(state="attached")
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    for index, token in enumerate(tokens[1:], 1):
        fake.send("token", request=message["request"], index=index, text=token)
        if index % 50 == 0:
            page.wait_for_timeout(10)
    fake.done(message)
    ended(page, turn)
    longest = longest_task(browser.stop_tracing())
    assert longest < 50, longest


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


def test_no_more_is_sent_than_the_server_has_room_for_and_stop_is_not_late(faked):
    limits = {**LIMITS, "upload_window": 2 * 65536}
    page, fake = faked(with_picture=False, hello=lambda f, m: f.welcome(limits=limits), frame=lambda f, m: None)
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    give(page, {"name": "big.bmp", "mimeType": "image/bmp", "buffer": picture(format="BMP")})
    until(page, lambda: len(fake.picture) == 2 * 65536)
    page.wait_for_timeout(300)
    assert len(fake.picture) <= 2 * 65536
    page.get_by_test_id("new").click()
    until(page, lambda: fake.heard_of("cancel"))
    assert fake.heard_of("cancel") == [{"type": "cancel", "upload": fake.heard_of("upload")[0]["upload"]}]
