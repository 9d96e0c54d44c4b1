"""Every state of the page as a picture: python tests/browser/screenshots.py http://127.0.0.1:8080 OUT [STATE…]

The page comes from a running server; what that server would say is played, so that each state stands still.
"""

import io
import os
import shutil
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

import closer
from driving import DESKTOP, PHONE, ask, bring, card, ended, give, kept, phase, picture
from fake import MODEL, Fake

FILE = {"name": "circles.jpg", "mimeType": "image/jpeg", "buffer": picture(1600, 1200, 3, "#c8402f", "#e3ead9", "JPEG")}
DEMO = {**MODEL, "name": "glimpse-demo", "demo": True, "image_size": 336, "device": "cpu", "dtype": "f32"}
LONG = """The picture shows **three red circles** in a row on a pale green ground.

1. one on the *left*
2. one in the middle
3. one on the *right*

| thing | count | colour |
|---|--:|---|
| circle | 3 | red |

```python
circles = ["red"] * 3
```

Nothing else is in it."""
FORMULAS = r"""The area of a circle is \(A = \pi r^2\), so for three of them with radii $r_1, r_2, r_3$:

$$A = \sum_{i=1}^{3} \pi r_i^2 = \pi \left(r_1^2 + r_2^2 + r_3^2\right) \approx \frac{355}{113} \cdot 3 r^2$$

- [x] counted
- [ ] measured

A frame costs between $5 and $10."""


def asked(page, text, name):
    turn = ask(page, text)
    phase(page, turn, name)
    return turn


def with_answer(answer):
    def on_ask(fake, message):
        fake.queued(message)
        answer(fake, message)

    return {"ask": on_ask}


def upload_half(fake, message):
    fake.send("upload_accepted", upload=message["upload"], received=0)
    fake.send("upload_progress", upload=message["upload"], received=message["bytes"] * 4 // 10)


def only_looks(fake, message):
    fake.bytes -= message["bytes"]
    if fake.bytes == 0:
        fake.received(message)


def needs_key(fake, message):
    fake.send("error", code="unauthorized", message="This server asks for a key.")
    fake.socket.close(code=4401)


def too_busy(fake, message):
    fake.send("error", code="busy", message="The server is full: try again in a minute.", retry_after_ms=60000)
    fake.socket.close(code=4429)


def wrong_key(page, fake):
    page.locator("#key").fill("wrong")
    page.locator("[data-testid=key-form] button").click()
    page.get_by_text("not accepted").or_(page.get_by_text("密钥不对")).wait_for()


def slowly(fake, message):
    """An answer that takes the time that it says."""
    time.sleep(0.04)
    fake.queued(message)
    fake.send("started", request=message["request"])
    time.sleep(0.03)
    for i, word in enumerate("There are three red circles in a row.".split(" ")):
        fake.tokens(message["request"], ("" if i == 0 else " ") + word, first=i)
        time.sleep(0.02)
    fake.done(message)


def looks(fake, message):
    fake.bytes -= message["bytes"]
    if fake.bytes == 0:
        fake.received(message)
        time.sleep(0.15)
        fake.ready()


def broken(fake, message):
    fake.send("error", code="image_broken", upload=message["upload"],
              message="The picture is cut off: it ends in the middle of its data. Save it again, or choose another one.")


def loses(page, fake):
    asked(page, "What is in the picture?", "streaming")
    fake.answers["hello"] = lambda f, m: None
    fake.socket.close(code=1011)
    page.get_by_test_id("lost").wait_for()


def comes_back(page, fake):
    fake.socket.close(code=1011)
    page.get_by_test_id("notice").wait_for()


def without_connection(page, fake):
    fake.answers["hello"] = lambda f, m: None
    fake.socket.close(code=1011)
    page.get_by_test_id("lost").wait_for()
    give(page, FILE)
    card(page, "received").wait_for()
    asked(page, "What is in the picture?", "unsent")


def closed(code):
    return lambda page, fake: fake.socket.close(code=code)


def edited(page, fake):
    turn = ask(page, "How many circles are there?")
    ended(page, turn)
    turn.hover()
    turn.get_by_test_id("edit").click()


def opened(page, fake):
    turn = ask(page, "How many circles are there?")
    ended(page, turn)
    turn.get_by_test_id("latency").click()


def dialog(name):
    def show(page, fake):
        ended(page, ask(page, "How many circles are there?"))
        page.wait_for_timeout(300)
        page.get_by_test_id(name).click()

    return show


def comes(page, fake):
    """A picture that only the server may read, while a conversation is there."""
    ended(page, ask(page, "How many circles are there?"))
    fake.answers["frame"] = lambda f, m: None
    give(page, {"name": "IMG_2031.heic", "mimeType": "image/heic", "buffer": b"x" * 5000})
    page.get_by_test_id("decline").wait_for()
    page.get_by_test_id("question").fill("And in this one?")
    page.get_by_test_id("question").press("Enter")


def undone(page, fake):
    ended(page, ask(page, "How many circles are there?"))
    page.get_by_test_id("regenerate").click()
    ended(page, page.get_by_test_id("turn").first)
    page.get_by_test_id("undo").wait_for()


def left(page, fake):
    ended(page, ask(page, "How many circles are there?"))
    page.get_by_test_id("new").click()
    page.get_by_test_id("undo").wait_for()


def deleted(page, fake):
    ended(page, ask(page, "How many circles are there?"))
    kept(page, 1)
    page.get_by_test_id("history").click()
    page.get_by_test_id("kept").wait_for()
    page.get_by_role("button", name="Delete:").or_(page.get_by_role("button", name="删除:")).click()
    page.get_by_test_id("deleted").wait_for()


def clears(page, fake):
    ended(page, ask(page, "How many circles are there?"))
    page.get_by_test_id("settings").click()
    page.get_by_test_id("clear-all").click()
    page.get_by_test_id("clear-sure").wait_for()


def elsewhere(page, fake):
    ended(page, ask(page, "How many circles are there?"))
    kept(page, 1)
    page.evaluate("() => new BroadcastChannel('glimpse').postMessage(['kept', sessionStorage.getItem('glimpse-open')])")
    page.get_by_test_id("store-notice").wait_for()


# Name: what the server says, up to which phase a picture is given, and what is done then.
def boxes(page, fake):
    closer.draw_box(page, (300, 450, 900, 800), (1600, 1200))
    page.get_by_test_id("box").wait_for()


def looks_closer(page, fake):
    boxes(page, fake)
    page.get_by_test_id("look-closer").click()
    page.get_by_test_id("part").wait_for()
    card(page, "ready").wait_for()
    asked(page, "What is in it?", "done")


def transparent(page, fake):
    image = Image.new("RGBA", (900, 700), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((200, 100, 700, 600), fill=(20, 110, 160, 255))
    out = io.BytesIO()
    image.save(out, "PNG")
    give(page, {"name": "logo.png", "mimeType": "image/png", "buffer": out.getvalue()})
    page.locator("img.checkered").wait_for()


def several(page, fake):
    """Kept conversations, the name and files of one of them."""
    asked(page, "What is in the picture?", "done")
    page.get_by_test_id("new").click()
    give(page, {"name": "blue.png", "mimeType": "image/png", "buffer": picture(900, 1200, 2, "#2f58c8")})
    card(page, "ready").wait_for()
    asked(page, "How many circles are there, and what colour do they have?", "done")
    kept(page, 1)
    page.get_by_test_id("history").click()
    page.get_by_test_id("more").last.click()


STATES = {
    "empty": ({}, None, None),
    "demo": ({"hello": lambda f, m: f.welcome(model=DEMO)}, None, None),
    "demo-ready": ({"hello": lambda f, m: f.welcome(model=DEMO)}, "ready", None),
    "dragging": ({}, None, lambda p, f: bring(p, "dragenter", "x.png")),
    "received": ({}, None, without_connection),
    "uploading": ({"upload": upload_half, "frame": lambda f, m: None}, "uploading", None),
    "looking": ({"frame": only_looks}, "looking", None),
    "ready": ({}, "ready", None),
    "several": ({}, None, lambda p, f: bring(p, "drop", "first.png", "second.png")),
    "no-preview": ({}, None, lambda p, f: give(p, {"name": "IMG_2031.heic", "mimeType": "image/heic", "buffer": b"x" * 5000})),
    "picture-failed": ({"upload": broken, "frame": lambda f, m: None}, "failed", None),
    "queued": ({"ask": lambda f, m: f.queued(m, 3)}, "ready", lambda p, f: asked(p, "How many?", "queued")),
    "waiting": ({"ask": lambda f, m: f.queued(m, None)}, "ready", lambda p, f: asked(p, "How many?", "waiting")),
    "thinking": (with_answer(lambda f, m: f.send("started", request=m["request"])), "ready",
                 lambda p, f: asked(p, "How many?", "thinking")),
    "streaming": (with_answer(lambda f, m: f.answer(m, LONG[:200], done=False)), "ready",
                  lambda p, f: asked(p, "What is in the picture?", "streaming")),
    "answered": (with_answer(lambda f, m: f.answer(m, LONG)), "ready", lambda p, f: asked(p, "What is in it?", "done")),
    "stopped": (with_answer(lambda f, m: f.answer(m, LONG[:90], "cancelled")), "ready",
                lambda p, f: asked(p, "What is in it?", "stopped")),
    "timeout": (with_answer(lambda f, m: f.answer(m, LONG[:90], "timeout")), "ready",
                lambda p, f: asked(p, "What is in it?", "timeout")),
    "cut": (with_answer(lambda f, m: f.answer(m, LONG[:90], "length")), "ready",
            lambda p, f: asked(p, "What is in it?", "length")),
    "failed": (with_answer(lambda f, m: f.fail(m, "busy", "The queue is full: 64 questions wait already.", retry_after_ms=4000)),
               "ready", lambda p, f: asked(p, "What is in it?", "failed")),
    "editing": ({}, "ready", edited),
    "latency": ({"ask": slowly, "frame": looks}, "ready", opened),
    "loading": ({"hello": lambda f, m: (f.welcome(state="loading"), f.send("status", state="loading", progress=0.42))}, None, None),
    "warming": ({"hello": lambda f, m: f.welcome(state="warming")}, None, None),
    "draining": ({"hello": lambda f, m: f.welcome(state="draining")}, None, None),
    "server-failed": ({"hello": lambda f, m: f.welcome(state="failed")}, None, None),
    "lost": (with_answer(lambda f, m: f.answer(m, LONG[:90], done=False)), "ready", loses),
    "back": ({}, "ready", comes_back),
    "taken-over": ({}, "ready", closed(4001)),
    "outdated": ({"hello": lambda f, m: f.welcome(protocol="glimpse.v2")}, None, None),
    "key": ({"hello": needs_key}, None, None),
    "wrong-key": ({"hello": needs_key}, None, wrong_key),
    "busy": ({"hello": too_busy}, None, None),
    "coming": ({}, "ready", comes),
    "versions": ({}, "ready", undone),
    "left": ({}, "ready", left),
    "deleted": ({}, "ready", deleted),
    "clearing": ({}, "ready", clears),
    "two-tabs": ({}, "ready", elsewhere),
    "viewer": ({}, "ready", boxes),
    "part": ({}, "ready", looks_closer),
    "transparent": ({}, None, transparent),
    "formulas": (with_answer(lambda f, m: f.answer(m, FORMULAS)), "ready", lambda p, f: asked(p, "Why?", "done")),
    "demo": ({"hello": lambda f, m: f.welcome(model=DEMO)}, None, lambda p, f: p.get_by_test_id("demo").click()),
    "keys": ({}, "ready", lambda p, f: p.get_by_test_id("settings").press("?")),
    "settings": ({}, "ready", dialog("settings")),
    "history": ({}, "ready", several),
}


def show(page, url, name):
    """Brings a page to this state."""
    answers, upto, act = STATES[name]
    fake = Fake(page, **answers)
    fake.size = (1600, 1200)
    page.goto(url)
    page.get_by_test_id("server-state").wait_for()
    page.get_by_test_id("sample").first.wait_for()
    page.wait_for_timeout(300)
    if upto:
        give(page, FILE)
        card(page, upto).wait_for()
    if act:
        act(page, fake)
    page.wait_for_timeout(400)


def main(url, out, only):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            chromium_sandbox=os.geteuid() != 0, args=["--disable-gpu"],
        )
        for size, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
            for scheme in ("light", "dark"):
                for name in only or STATES:
                    context = browser.new_context(
                        viewport=viewport, color_scheme=scheme, has_touch=size == "phone", is_mobile=size == "phone",
                        reduced_motion="reduce", locale="zh-CN" if (size, scheme) == ("phone", "light") else "en-US",
                    )
                    page = context.new_page()
                    show(page, url, name)
                    page.screenshot(path=out / f"{name}-{size}-{scheme}.png")
                    context.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
