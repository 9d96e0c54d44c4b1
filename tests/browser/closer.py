"""How much small print is read when the page looks closer, and how much when it shows the whole picture.

    python tests/browser/closer.py http://127.0.0.1:8080 [COUNT]

Draws COUNT scenes (100) of 4000 × 3000 pixels with a line of small print each. Each goes through the page in Chromium: the print
is asked for of the whole picture, then a box is drawn around it with the mouse, and it is asked for of that. Prints the share
that was read right, greedily, letter for letter but for capitals and spaces.
"""

import io
import json
import os
import random
import shutil
import sys

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

from driving import ask, card, ended, give

SIZE = (4000, 3000)
WORDS = """open closed exit hotel cafe taxi police school library museum parking ticket bank market pizza coffee bakery office
private garden street station airport platform gate winter summer spring autumn music""".split()
QUESTION = "Read the text in it, nothing else."
SETTINGS = f"localStorage.setItem('glimpse-settings', '{json.dumps({'temperature': 0, 'scaling': 'original', 'keep': False})}')"


def font(size):
    """A plain face of this size, whichever of these the machine has."""
    for name in ("DejaVuSans-Bold.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    raise SystemExit("No font is here: install fonts-dejavu-core, then run the same command again.")


def scene(rng):
    """A picture with small print: its file, the words, and the box around them."""
    ground = tuple(rng.randint(200, 250) for _ in range(3))
    image = Image.new("RGB", SIZE, ground)
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y, size = rng.randint(0, 3600), rng.randint(0, 2600), rng.randint(150, 400)
        colour = tuple(rng.randint(60, 230) for _ in range(3))
        rng.choice((draw.ellipse, draw.rectangle))((x, y, x + size, y + size), fill=colour)
    text = rng.choice(WORDS).upper() if rng.random() < 0.7 else f"{rng.choice(WORDS)} {rng.randint(10, 99)}".upper()
    face = font(rng.randint(34, 46))
    x, y = rng.randint(150, 3300), rng.randint(150, 2700)
    left, top, right, bottom = draw.textbbox((x, y), text, font=face)
    pad = 24
    box = (left - pad, top - pad, right + pad, bottom + pad)
    draw.rectangle(box, fill=(252, 252, 250))
    draw.text((x, y), text, font=face, fill=(15, 15, 15))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue(), text, box


def same(a, b):
    """Whether two readings are one, but for capitals, spaces and a full stop."""
    plain = lambda text: "".join(text.split()).strip(".").lower()
    return plain(a) == plain(b)


def draw_box(page, box, size=SIZE):
    """Opens the viewer and draws this box of the picture with the mouse."""
    page.get_by_test_id("closer").click()
    stage = page.get_by_test_id("stage")
    page.wait_for_function("() => /%/.test(document.querySelector('[data-testid=percent]')?.innerText)")
    place = stage.bounding_box()
    scale = min(place["width"] / size[0], place["height"] / size[1])
    left = place["x"] + (place["width"] - scale * size[0]) / 2
    top = place["y"] + (place["height"] - scale * size[1]) / 2
    page.mouse.move(left + scale * box[0], top + scale * box[1])
    page.mouse.down()
    page.mouse.move(left + scale * (box[0] + box[2]) / 2, top + scale * (box[1] + box[3]) / 2)
    page.mouse.move(left + scale * box[2], top + scale * box[3])
    page.mouse.up()


def read(page, file, box):
    """What is read of the whole picture, and of the box."""
    give(page, {"name": "scene.jpg", "mimeType": "image/jpeg", "buffer": file})
    page.get_by_test_id("closer").wait_for(timeout=60_000)
    card(page, "ready").wait_for(timeout=60_000)
    whole = ended(page, ask(page, QUESTION))
    draw_box(page, box)
    page.get_by_test_id("look-closer").click()
    page.get_by_test_id("part").wait_for()
    card(page, "ready").wait_for(timeout=60_000)
    return whole, ended(page, ask(page, QUESTION))


def main():
    url, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100
    right = {"whole": 0, "closer": 0}
    with sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=program)
        for number in range(count):
            file, text, box = scene(random.Random(number))
            page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
            page.add_init_script(SETTINGS)
            page.goto(url)
            whole, closer = read(page, file, box)
            right["whole"] += same(whole, text)
            right["closer"] += same(closer, text)
            print(f"{number}: {text!r} whole {whole!r} closer {closer!r}", file=sys.stderr)
            page.close()
        browser.close()
    for how, many in right.items():
        print(f"{how}: {many} of {count} read right, {100 * many / count:.0f} %")


if __name__ == "__main__":
    main()
