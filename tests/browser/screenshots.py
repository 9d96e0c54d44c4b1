"""Every state of the page as a picture: python tests/browser/screenshots.py http://127.0.0.1:8080 OUT

The page comes from a running server; what that server would say is played, so that each state stands still.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from driving import DESKTOP, PHONE, ask, card, ended, give, picture
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


def asked(page, text, phase):
    turn = ask(page, text)
    page.wait_for_function("([t, p]) => t.dataset.phase === p", arg=[turn.element_handle(), phase])
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
        fake.send("upload_received", upload=message["upload"], image="i1", bytes=1, sha256="0" * 64)


def needs_key(fake, message):
    fake.send("error", code="unauthorized", message="This server asks for a key.")
    fake.socket.close(code=4401)


def too_busy(fake, message):
    fake.send("error", code="busy", message="The server is full: try again in a minute.", retry_after_ms=60000)
    fake.socket.close(code=4429)


def drag(page, fake):
    page.evaluate(
        """() => { const data = new DataTransfer(); data.items.add(new File(['x'], 'x.png', {type: 'image/png'}));
                   document.body.dispatchEvent(new DragEvent('dragenter', {dataTransfer: data, bubbles: true})); }"""
    )


def broken(fake, message):
    fake.send("error", code="image_broken", upload=message["upload"],
              message="The picture is cut off: it ends in the middle of its data. Save it again, or choose another one.")


def loses(page, fake):
    asked(page, "What is in the picture?", "streaming")
    page.route_web_socket("**/ws", lambda socket: None)
    fake.socket.close(code=1011)
    page.get_by_test_id("lost").wait_for()


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


# Name: what the server says, whether a picture is given and ready, and what is done then.
STATES = {
    "empty": ({}, None, None),
    "demo": ({"hello": lambda f, m: f.welcome(model=DEMO)}, None, None),
    "dragging": ({}, None, drag),
    "uploading": ({"upload": upload_half, "frame": lambda f, m: None}, "uploading", None),
    "looking": ({"frame": only_looks}, "looking", None),
    "ready": ({}, "ready", None),
    "picture-failed": ({"upload": broken, "frame": lambda f, m: None}, "failed", None),
    "queued": ({"ask": lambda f, m: f.queued(m, 3)}, "ready", lambda p, f: asked(p, "How many?", "queued")),
    "waiting": ({"ask": lambda f, m: f.queued(m, None)}, "ready", lambda p, f: asked(p, "How many?", "waiting")),
    "streaming": (with_answer(lambda f, m: f.answer(m, LONG[:200], done=False)), "ready",
                  lambda p, f: asked(p, "What is in the picture?", "streaming")),
    "answered": (with_answer(lambda f, m: f.answer(m, LONG)), "ready", lambda p, f: asked(p, "What is in it?", "done")),
    "stopped": (with_answer(lambda f, m: f.answer(m, LONG[:90], "cancelled")), "ready",
                lambda p, f: asked(p, "What is in it?", "stopped")),
    "cut": (with_answer(lambda f, m: f.answer(m, LONG[:90], "length")), "ready",
            lambda p, f: asked(p, "What is in it?", "length")),
    "failed": (with_answer(lambda f, m: f.fail(m, "busy", "The queue is full: 64 questions wait already.", retry_after_ms=4000)),
               "ready", lambda p, f: asked(p, "What is in it?", "failed")),
    "latency": ({}, "ready", opened),
    "loading": ({"hello": lambda f, m: (f.welcome(state="loading"), f.send("status", state="loading", progress=0.42))}, None, None),
    "lost": (with_answer(lambda f, m: f.answer(m, LONG[:90], done=False)), "ready", loses),
    "key": ({"hello": needs_key}, None, None),
    "busy": ({"hello": too_busy}, None, None),
    "settings": ({}, "ready", dialog("settings")),
    "history": ({}, "ready", dialog("history")),
}


def main(url, out, only):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox", "--disable-gpu"]
        )
        for size, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
            for scheme in ("light", "dark"):
                for name, (answers, phase, act) in STATES.items():
                    if only and name not in only:
                        continue
                    context = browser.new_context(
                        viewport=viewport, color_scheme=scheme, has_touch=size == "phone", reduced_motion="reduce",
                        locale="zh-CN" if (size, scheme) == ("phone", "light") else "en-US",
                    )
                    page = context.new_page()
                    fake = Fake(page, **answers)
                    page.goto(url)
                    page.get_by_test_id("server-state").wait_for()
                    page.wait_for_timeout(400)
                    if phase:
                        give(page, FILE)
                        card(page, phase).wait_for()
                    if act:
                        act(page, fake)
                    page.wait_for_timeout(500)
                    page.screenshot(path=out / f"{name}-{size}-{scheme}.png")
                    context.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
