"""What people see most, in each browser: python tests/everywhere/screenshots.py http://127.0.0.1:8080 OUT [BROWSER…]

On a desktop and a phone, light and dark, in both languages. The states that a healthy server never brings about are tests/browser/screenshots.py's.
"""

import sys
import tempfile
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / folder) for folder in ("browser", "helpers")]

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

import browsers  # noqa: E402
from driving import picture  # noqa: E402
from line import Line  # noqa: E402
from pages import Page  # noqa: E402

# But for what breathes as long as something is on its way.
STILL = "return document.getAnimations().every((one) => one.playState !== 'running' || one.effect.getComputedTiming().endTime === Infinity)"
# WebKitGTK gives what it painted last.
PAINTED = """
    const done = arguments[0], frames = (n) => n ? requestAnimationFrame(() => frames(n - 1)) : setTimeout(done, 300);
    frames(3);
"""
ASK = {"en": "How many circles are there?", "zh": "图里有几个圆？"}


class Walk:
    """From state to state, each kept as a picture."""

    def __init__(self, page, lang, keep, file):
        self.page, self.lang, self.keep, self.file = page, lang, keep, file

    def closes(self):
        self.page.keys(Keys.ESCAPE)
        self.page.until(lambda: not self.page.driver.find_elements("css selector", "dialog[open]"))

    def goes(self):
        page = self.page
        page.until(lambda: page.script("return [...document.images].filter((i) => i.complete && i.naturalWidth).length >= 4"))
        self.keep("empty")
        page.give(self.file)
        page.ready("circles")
        page.until(lambda: page.script("return document.querySelector('[data-testid=preview]')?.naturalWidth > 0"))
        self.keep("ready")
        page.ask(ASK[self.lang])
        self.keep("answered")
        page.click("latency")
        page.find("latency-panel")
        self.keep("latency")
        page.click("latency")
        page.script("document.querySelector('[data-testid=edit]').click()")
        page.find("edit-text")
        self.keep("editing")
        page.keys(Keys.ESCAPE)
        page.until(lambda: not page.all("edit-text"))
        page.script("document.querySelector('[data-testid=regenerate]').click()")
        page.until(lambda: page.all("version") and page.all("turn", "[data-phase=done]"))
        self.keep("versions")
        for name, there in (("history", "kept"), ("settings", "temperature")):
            page.click(name)
            page.find(there)
            self.keep(name)
            self.closes()
        page.click("closer")
        page.until(lambda: "%" in page.find("percent").text)
        drag = ActionChains(page.driver).move_to_element(page.find("stage")).click_and_hold()
        drag.move_by_offset(60, 40).move_by_offset(40, 30).release().perform()
        page.find("box")
        self.keep("viewer")
        page.click("look-closer")
        page.find("part")
        page.until(lambda: page.all("picture-card", "[data-phase=ready]"))
        self.keep("part")
        page.line.leaves()
        page.find("lost")
        self.keep("lost")


def main(url, out, names):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    file = Path(tempfile.mkdtemp()) / "circles.jpg"
    file.write_bytes(picture(1600, 1200, 3, "#c8402f", "#e3ead9", "JPEG"))
    screen = browsers.Screen()
    for name, size in product(names or browsers.NEEDS, browsers.SIZES):
        driver = browsers.start(name, size, screen if size == "desktop" or name == "webkit" else None)
        for lang, theme in product(("en", "zh"), ("light", "dark")):
            line = Line(urlsplit(url).port)
            page = Page(driver, line)
            page.script("localStorage['glimpse-lang'] = arguments[0]; localStorage['glimpse-settings'] = arguments[1]",
                        lang, f'{{"theme":"{theme}"}}')
            driver.refresh()
            page.good()

            def keep(state):
                page.until(lambda: page.script(STILL))
                driver.execute_async_script(PAINTED)
                driver.save_screenshot(str(out / f"{name}-{size}-{lang}-{theme}-{state}.png"))

            Walk(page, lang, keep, file).goes()
            driver.get("about:blank")
            line.close()
        driver.quit()
    screen.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
