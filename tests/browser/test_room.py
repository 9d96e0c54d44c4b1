"""However little room there is, or however much: everything can be reached, and nothing is read sideways."""

import pytest

from driving import ask, card, ended, give

SIZES = [(320, 256), (320, 640), (640, 360), (844, 390), (2560, 1440)]


def inside(page, element):
    """Whether an element can be had wholly on the screen."""
    element.scroll_into_view_if_needed()
    box, view = element.bounding_box(), page.viewport_size
    return box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= view["width"] and box["y"] + box["height"] <= view["height"]


def sideways(page):
    return page.evaluate("() => document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize("width, height", SIZES)
def test_a_picture_is_brought_and_asked_about(faked, circles, width, height):
    page, fake = faked(with_picture=False, viewport={"width": width, "height": height})
    for name in ("choose", "question", "settings", "history"):
        assert inside(page, page.get_by_test_id(name)), name
    assert sideways(page) <= 0
    give(page, circles)
    card(page, "ready").wait_for()
    for name in ("preview", "closer", "question", "send"):
        element = page.get_by_test_id(name)
        element.scroll_into_view_if_needed()
        box = element.bounding_box()
        # The picture may be taller than a low window, which is scrolled.
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, name
        assert name == "preview" or inside(page, element), name
    answer = ended(page, ask(page, "How many circles are there?"))
    assert answer == "There are three circles."
    assert inside(page, page.get_by_test_id("question"))
    assert sideways(page) <= 0


def test_a_page_at_400_percent_is_scrolled_as_a_whole(faked):
    page, _ = faked(viewport={"width": 320, "height": 256})
    ended(page, ask(page, "How many circles are there?"))
    assert page.evaluate("() => document.documentElement.scrollHeight > innerHeight")
    # Nothing in it scrolls by itself: a page within a page would leave no room for either.
    own = """() => [...document.querySelectorAll('main, .picture, .talk, .turns')].filter((e) => e.scrollHeight > e.clientHeight + 1)
        .map((e) => e.className)"""
    assert page.evaluate(own) == []


def test_much_room_is_the_pictures(faked):
    page, _ = faked(viewport={"width": 2560, "height": 1440})
    picture = page.get_by_test_id("preview").bounding_box()
    assert picture["width"] > 2560 / 3
