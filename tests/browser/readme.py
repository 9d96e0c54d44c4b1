"""The pictures of README, from the real page: python tests/browser/readme.py http://127.0.0.1:8080

Writes docs/screenshot.png, docs/screenshot-dark.png and docs/glimpse.gif. The server is one that runs the demo checkpoint.
"""

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from closer import draw_box
from driving import card, ended

DOCS = Path(__file__).resolve().parents[2] / "docs"
SAMPLE = DOCS.parent / "public" / "samples" / "animals.jpg"
STILL = {"width": 1280, "height": 800}
MOVING = {"width": 960, "height": 600}
QUESTION = "How many cats are there?"


class Film:
    """Frames of a page, each with the time that it stands."""

    def __init__(self, page):
        self.page, self.frames, self.times = page, [], []

    def take(self, ms):
        frame = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        if self.frames and frame.tobytes() == self.frames[-1].tobytes():
            self.times[-1] += ms
        else:
            self.frames.append(frame)
            self.times.append(ms)

    def save(self, path, colors=96):
        # One palette for all, so that what stands still costs nothing.
        sheet = Image.new("RGB", (self.frames[0].width, self.frames[0].height * len(self.frames)))
        for at, frame in enumerate(self.frames):
            sheet.paste(frame, (0, at * frame.height))
        palette = sheet.quantize(colors, dither=Image.Dither.NONE)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=self.times, loop=0, optimize=True)


def begin(browser, url, viewport, scheme="light"):
    context = browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-US", reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(url)
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    page.get_by_test_id("sample").last.locator("img").evaluate("image => image.decode()")
    return page


def pick(page):
    page.get_by_test_id("sample").first.click()
    card(page, "ready").wait_for()
    page.get_by_test_id("suggestion").first.wait_for()


def still(browser, url, scheme, path):
    page = begin(browser, url, STILL, scheme)
    pick(page)
    for at in range(2):
        page.get_by_test_id("question").fill([QUESTION, "Where is the dog?"][at])
        page.get_by_test_id("send").click()
        ended(page, page.get_by_test_id("turn").nth(at))
    page.get_by_test_id("latency").last.click()
    page.wait_for_timeout(300)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)


def film(browser, url, path):
    page = begin(browser, url, MOVING)
    film = Film(page)
    film.take(1200)
    pick(page)
    film.take(900)
    question = page.get_by_test_id("question")
    for end in range(4, len(QUESTION) + 4, 4):
        question.fill(QUESTION[:end])
        film.take(110)
    question.press("Enter")
    ended(page, page.get_by_test_id("turn").first)
    film.take(1200)
    page.get_by_test_id("latency").first.click()
    page.wait_for_timeout(200)
    film.take(2200)
    page.get_by_test_id("latency").first.click()
    width, height = Image.open(SAMPLE).size
    draw_box(page, (0.05 * width, 0.2 * height, 0.35 * width, 0.6 * height), (width, height))
    page.get_by_test_id("box").wait_for()
    film.take(1100)
    page.get_by_test_id("look-closer").click()
    page.get_by_test_id("part").wait_for()
    card(page, "ready").wait_for()
    question.fill("What is in the picture?")
    question.press("Enter")
    ended(page, page.get_by_test_id("turn").first)
    film.take(2500)
    film.save(path)


def main(url):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            chromium_sandbox=os.geteuid() != 0, args=["--disable-gpu"],
        )
        still(browser, url, "light", DOCS / "screenshot.png")
        still(browser, url, "dark", DOCS / "screenshot-dark.png")
        film(browser, url, DOCS / "glimpse.gif")
        browser.close()
    for name in ("screenshot.png", "screenshot-dark.png", "glimpse.gif"):
        print(f"{name}: {(DOCS / name).stat().st_size / 1e3:.0f} KB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
