"""A real browser against the real binary: what `make serve` runs is what is tested."""

import io
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


class Server:
    """The program, serving on a port of its own."""

    def __init__(self, *args, listen="127.0.0.1:0", env=None):
        binary = os.environ.get("GLIMPSE_BIN", str(ROOT / "target/release/glimpse"))
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", listen, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        lines = queue.Queue()

        def read():
            for line in self.process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        self.log = []
        while True:
            line = lines.get(timeout=60)
            assert line is not None, f"the server ended: {''.join(self.log)}"
            self.log.append(line)
            if "listening on " in line:
                self.url = line.split("listening on ")[1].split()[0].rstrip("/")
                break

    @property
    def address(self):
        return self.url.removeprefix("http://")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="session")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser():
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page in a browser of its own, and fails the test on anything wrong in its console."""
    contexts, wrong = [], []

    def open_page(url=None, viewport=DESKTOP, wait=True, tolerate=(), **options):
        context = browser.new_context(viewport=viewport, **{"locale": "en-US", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)

        def heard(message):
            text = message.text
            if message.type in ("error", "warning") and not any(word in text for word in tolerate):
                wrong.append(text)

        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url or server.url)
        if wait:
            page.locator("[data-testid=server-state][data-light=good]").wait_for(timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong, f"the console said: {wrong}"


def picture(width=640, height=480, circles=3, colour="red", ground="white", format="PNG", **options):
    """A scene of circles in a row, as a file's bytes."""
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    size = width // 6
    for i in range(circles):
        x, y = int(width * (i + 0.6) / (circles + 0.6)), height // 2
        draw.ellipse((x - size // 2, y - size // 2, x + size // 2, y + size // 2), fill=colour)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def circles():
    return {"name": "circles.png", "mimeType": "image/png", "buffer": picture()}


def give(page, file):
    """Chooses a picture."""
    page.get_by_test_id("file-input").set_input_files(file)


def card(page, phase):
    return page.locator(f"[data-testid=picture-card][data-phase={phase}]")


def ask(page, text):
    """Types a question and sends it with Enter; the new turn."""
    turns = page.get_by_test_id("turn")
    before = turns.count()
    page.get_by_test_id("question").fill(text)
    page.get_by_test_id("question").press("Enter")
    turn = turns.nth(before)
    turn.wait_for()
    return turn


def ended(page, turn, phase="done"):
    """Waits for the end of an answer; its text."""
    page.wait_for_function(
        "([turn, phase]) => turn.dataset.phase === phase", arg=[turn.element_handle(), phase], timeout=60_000
    )
    # The last words are drawn in the frame after they came.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return turn.get_by_test_id("answer").inner_text()
