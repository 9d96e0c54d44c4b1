"""The picture on the whole screen, and looking closer at a part of it."""

import io
import random
import time

from PIL import Image

import closer
from driving import PHONE, ask, card, ended, give, kept_over, picture, until, violations


def marked(orientation=None):
    """A picture of 1600 × 1200 with a red box at (400, 300) to (800, 500), as it is seen upright."""
    image = Image.new("RGB", (1600, 1200), "white")
    image.paste((220, 30, 30), (400, 300, 800, 500))
    out = io.BytesIO()
    if orientation is None:
        image.save(out, "PNG")
        return {"name": "marked.png", "mimeType": "image/png", "buffer": out.getvalue()}
    exif = image.getexif()
    exif[0x0112] = orientation
    # Six is turned by a quarter to be seen upright.
    image.transpose(Image.Transpose.ROTATE_90).save(out, "JPEG", quality=95, exif=exif)
    return {"name": "marked.jpg", "mimeType": "image/jpeg", "buffer": out.getvalue()}


def shows(page, fake, file):
    fake.size = (1600, 1200)
    give(page, file)
    card(page, "ready").wait_for()
    page.get_by_test_id("closer").wait_for()


def looked_at(fake):
    return Image.open(io.BytesIO(bytes(fake.picture)))


def zoomed(page):
    return int(page.get_by_test_id("percent").inner_text().split()[0])


def test_a_box_becomes_the_picture_of_a_conversation_of_its_own(faked):
    page, fake = faked(with_picture=False)
    shows(page, fake, marked())
    ended(page, ask(page, "What is this?"))
    closer.draw_box(page, (400, 300, 800, 500), (1600, 1200))
    page.get_by_test_id("box").wait_for()
    page.get_by_test_id("look-closer").click()
    page.get_by_test_id("part").wait_for()
    until(page, lambda: len(fake.heard_of("upload")) == 2)
    card(page, "ready").wait_for()
    # There is room for what is said of it: nothing has to be scrolled.
    page.set_viewport_size({"width": 1280, "height": 520})
    assert page.evaluate("() => (({scrollHeight, clientHeight}) => scrollHeight - clientHeight)(document.querySelector('.picture'))") <= 0
    # Full resolution, without loss, within a pixel of what was drawn.
    cut = looked_at(fake)
    assert cut.format == "PNG"
    assert abs(cut.width - 400) <= 4 and abs(cut.height - 200) <= 4, cut.size
    assert cut.convert("RGB").getpixel((cut.width // 2, cut.height // 2)) == (220, 30, 30)
    # Nothing was said of it before, and the viewer is closed.
    assert page.get_by_test_id("turn").count() == 0
    assert page.locator("dialog[open]").count() == 0
    ended(page, ask(page, "And this?"))
    assert "conversation" not in fake.asks()[-1] and "history" not in fake.asks()[-1]
    # The main conversation is as it was; nobody was told to stop or to forget anything.
    page.get_by_test_id("whole").click()
    page.get_by_text("What is this?").wait_for()
    assert page.get_by_test_id("part").count() == 0
    assert not fake.heard_of("cancel") and not fake.heard_of("forget")


def test_a_flat_box_is_grown_by_what_surrounds_it(faked):
    page, fake = faked(with_picture=False)
    shows(page, fake, marked())
    closer.draw_box(page, (200, 380, 1000, 420), (1600, 1200))
    page.get_by_test_id("look-closer").click()
    page.get_by_test_id("part").wait_for()
    until(page, lambda: len(fake.heard_of("upload")) == 2)
    card(page, "ready").wait_for()
    cut = looked_at(fake)
    assert 1.98 <= cut.width / cut.height <= 2.02, cut.size
    # By real surroundings, as much above as below.
    assert cut.convert("RGB").getpixel((cut.width // 2, cut.height // 2)) == (220, 30, 30)
    assert cut.convert("RGB").getpixel((10, 10)) == (255, 255, 255)


def test_a_photo_that_was_turned_is_cut_upright(faked):
    page, fake = faked(with_picture=False)
    shows(page, fake, marked(orientation=6))
    closer.draw_box(page, (420, 320, 780, 480), (1600, 1200))
    page.get_by_test_id("look-closer").click()
    page.get_by_test_id("part").wait_for()
    until(page, lambda: len(fake.heard_of("upload")) == 2)
    card(page, "ready").wait_for()
    cut = looked_at(fake).convert("RGB")
    for x in (12, cut.width - 12):
        for y in (12, cut.height - 12):
            assert all(abs(a - b) < 12 for a, b in zip(cut.getpixel((x, y)), (220, 30, 30))), (x, y, cut.size)


def test_wheel_and_keys_zoom_and_what_is_seen_can_be_looked_at(faked):
    page, fake = faked(with_picture=False)
    shows(page, fake, marked())
    page.get_by_test_id("enlarge").click()
    page.wait_for_function("() => /%/.test(document.querySelector('[data-testid=percent]')?.innerText)")
    whole = zoomed(page)
    assert page.get_by_test_id("look-closer").is_disabled()
    stage = page.get_by_test_id("stage")
    assert stage.evaluate("e => e === document.activeElement")
    assert violations(page) == []
    page.mouse.move(640, 400)
    page.mouse.wheel(0, -600)
    until(page, lambda: zoomed(page) > 1.5 * whole)
    page.keyboard.press("0")
    until(page, lambda: zoomed(page) == whole)
    page.keyboard.press("1")
    until(page, lambda: zoomed(page) == 100)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_test_id("part").wait_for()
    until(page, lambda: len(fake.heard_of("upload")) == 2)
    card(page, "ready").wait_for()
    seen = looked_at(fake)
    assert seen.width < 1600 and 0.5 <= seen.width / seen.height <= 2.01


def test_a_finger_draws_a_box_and_two_fingers_zoom(faked, browser):
    page, fake = faked(with_picture=False)
    shows(page, fake, marked())
    page.set_viewport_size(PHONE)
    page.get_by_test_id("closer").click()
    page.wait_for_function("() => /%/.test(document.querySelector('[data-testid=percent]')?.innerText)")
    whole = zoomed(page)
    touch = page.context.new_cdp_session(page)
    place = page.get_by_test_id("stage").bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2

    def fingers(kind, *points, **when):
        places = [{"x": a, "y": b, "id": i} for i, (a, b) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places, **when})

    # Two taps: closer, and back. One alone does nothing.
    for closer in (True, False):
        # One soon after the other, by what the events say of their time: how long they are on their way is the machine's.
        began = time.time()
        for at in (0, 0.1):
            fingers("touchStart", (x, y), timestamp=began + at)
            fingers("touchEnd", timestamp=began + at + 0.05)
        until(page, lambda: zoomed(page) > whole if closer else zoomed(page) == whole)
        fingers("touchStart", (x + 100, y))
        fingers("touchEnd")
        assert (zoomed(page) > whole) == closer
    fingers("touchStart", (x - 60, y - 40))
    fingers("touchMove", (x, y))
    fingers("touchMove", (x + 60, y + 40))
    fingers("touchEnd")
    page.get_by_test_id("box").wait_for()
    assert page.get_by_test_id("look-closer").is_enabled()
    fingers("touchStart", (x - 20, y))
    fingers("touchStart", (x - 20, y), (x + 20, y))
    fingers("touchMove", (x - 60, y), (x + 60, y))
    fingers("touchMove", (x - 80, y), (x + 80, y))
    fingers("touchEnd")
    until(page, lambda: zoomed(page) > 2 * whole)
    assert page.get_by_test_id("box").count() == 0


def test_a_part_is_still_one_after_a_reload(faked):
    page, fake = faked(with_picture=False)
    shows(page, fake, marked())
    ended(page, ask(page, "What is this?"))
    closer.draw_box(page, (400, 300, 800, 500), (1600, 1200))
    page.get_by_test_id("look-closer").click()
    page.get_by_test_id("part").wait_for()
    ended(page, ask(page, "And this?"))
    kept_over(page, 1, 1)
    page.reload()
    page.get_by_text("And this?").wait_for()
    page.get_by_test_id("whole").click()
    page.get_by_text("What is this?").wait_for()


def test_transparency_is_shown_as_such(faked):
    page, fake = faked(with_picture=False)
    image = Image.new("RGBA", (320, 240), (0, 0, 0, 0))
    image.paste((20, 80, 160, 255), (80, 60, 240, 180))
    out = io.BytesIO()
    image.save(out, "PNG")
    give(page, {"name": "logo.png", "mimeType": "image/png", "buffer": out.getvalue()})
    page.locator("img.checkered").wait_for()
    assert "white" in page.get_by_test_id("enlarge").get_attribute("title")
    page.get_by_test_id("new").click()
    give(page, {"name": "circles.png", "mimeType": "image/png", "buffer": picture()})
    page.get_by_test_id("closer").wait_for()
    assert page.locator("img.checkered").count() == 0


def test_small_print_is_read_by_looking_closer(open_page):
    """A sample of what `closer.py` counts."""
    page = open_page()
    page.evaluate(f"() => {{ {closer.SETTINGS} }}")
    page.reload()
    right = []
    for number in range(3):
        file, text, box = closer.scene(random.Random(number))
        whole, near = closer.read(page, file, box)
        right.append((closer.same(whole, text), closer.same(near, text)))
        page.get_by_test_id("new").click()
    assert sum(near for _, near in right) > sum(whole for whole, _ in right), right
