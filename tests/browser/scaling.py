"""How many answers change when the page scales a picture before it sends it.

    python tests/browser/scaling.py http://127.0.0.1:8080 FOLDER

FOLDER holds large pictures and `questions.json`: [{"file": …, "questions": […]}], as written by
`python scenes.py large FOLDER` in models/demo/train. Each picture goes through the page in Chromium, set to scale
always; what the page sent is kept, and both files are asked about greedily. Prints the share of answers that differ.
"""

import base64
import io
import json
import math
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from websockets.sync.client import connect

from driving import card, give

PIECE = 64 * 1024
# Keeps what the page sends of pictures.
RECORD = """
    localStorage.setItem('glimpse-settings', JSON.stringify({scaling: 'always', keep: false}));
    const send = WebSocket.prototype.send;
    window.frames = [];
    WebSocket.prototype.send = function (data) {
        if (typeof data !== 'string') window.frames.push(data.slice(4));
        return send.call(this, data);
    };
"""
TAKE = """() => new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(',')[1]);
    reader.readAsDataURL(new Blob(window.frames.splice(0)));
})"""


def scaled(page, path):
    """What the page sends of this picture."""
    give(page, str(path))
    card(page, "ready").wait_for(timeout=120_000)
    sent = base64.b64decode(page.evaluate(TAKE))
    page.get_by_test_id("new").click()
    return sent


class Session:
    """Asks about files, one after the other."""

    def __init__(self, url):
        self.socket = connect(url.replace("http", "ws", 1) + "/ws", max_size=None).__enter__()
        self.number = 0

    def say(self, **message):
        self.socket.send(json.dumps(message))

    def until(self, kind, words=None):
        while True:
            message = json.loads(self.socket.recv(timeout=120))
            if message["type"] == "error":
                sys.exit(f"the server said: {message}")
            if message["type"] == "token" and words is not None:
                words.append(message["text"])
            if message["type"] == kind:
                return message

    def answers(self, data, questions):
        """The greedy answer to each question, each in a conversation of its own."""
        self.number += 1
        self.say(type="upload", upload=self.number, bytes=len(data))
        for at in range(0, len(data), PIECE):
            self.socket.send(self.number.to_bytes(4, "big") + data[at : at + PIECE])
        image = self.until("upload_received")["image"]
        answers = []
        for i, question in enumerate(questions):
            words = []
            self.say(type="ask", request=f"{self.number}.{i}", text=question, image=image, sampling={"temperature": 0})
            conversation = self.until("done", words)["conversation"]
            self.say(type="forget", conversation=conversation)
            answers.append("".join(words).strip())
        self.say(type="forget", image=image)
        return answers


def upper(changed, n):
    """The upper end of the share's 95% interval (Wilson)."""
    z, p = 1.96, changed / n
    return (p + z * z / (2 * n) + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def main(url, folder):
    folder = Path(folder)
    changed, asked, before, after, pixels, untouched = [], 0, 0, 0, 0, 0
    session = Session(url)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            chromium_sandbox=os.geteuid() != 0, args=["--disable-gpu"],
        )
        page = browser.new_page()
        page.add_init_script(RECORD)
        page.goto(url)
        page.locator("[data-testid=server-state][data-light=good]").wait_for()
        pictures = json.loads((folder / "questions.json").read_text())
        for number, picture in enumerate(pictures, 1):
            data = (folder / picture["file"]).read_bytes()
            small = scaled(page, folder / picture["file"])
            before, after, untouched = before + len(data), after + len(small), untouched + (small == data)
            with Image.open(io.BytesIO(data)) as image:
                pixels += image.width * image.height
            questions = picture["questions"]
            for question, large, little in zip(questions, *(session.answers(d, questions) for d in (data, small))):
                asked += 1
                if large != little:
                    changed.append((picture["file"], question, large, little))
                    print(f"{picture['file']}: {question!r}: {large!r} became {little!r}", flush=True)
            if number % 20 == 0:
                print(f"{number} of {len(pictures)} pictures: {len(changed)} of {asked} answers changed", flush=True)
        browser.close()
    n = len(pictures)
    print(f"{n} pictures of {pixels / n / 1e6:.1f} megapixels and {before / n / 1e6:.2f} MB on average, sent as {after / n / 1e6:.2f} MB "
          f"({untouched} as they were): {len(changed)} of {asked} answers changed, {len(changed) / asked:.2%} "
          f"(95% upper bound {upper(len(changed), asked):.2%})")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
