"""However little room there is, or however much: everything can be reached, and nothing is read sideways."""

import re

import pytest

from driving import PHONE, ask, card, ended, give

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


def test_what_is_too_wide_scrolls_by_itself_and_breaks_in_no_word(faked):
    word = "Donaudampfschifffahrtsgesellschaft"
    text = f"| {word} | {word} |\n|---|---|\n| a | b |\n\n```\n{3 * word}\n```"
    page, _ = faked(viewport={"width": 320, "height": 640}, ask=lambda f, m: (f.queued(m), f.answer(m, text)))
    ended(page, ask(page, "A table?"))
    page.get_by_test_id("answer").locator("table").wait_for()
    lines = """() => [...document.querySelectorAll('[data-testid=answer] :is(th, pre code)')].map((e) => {
        const range = document.createRange();
        range.selectNodeContents(e);
        return new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size;
    })"""
    assert page.evaluate(lines) == [1, 1, 1]
    wide = "() => ['.table', 'pre'].map((which) => document.querySelector(`[data-testid=answer] ${which}`)).map((e) => e.scrollWidth > e.clientWidth)"
    assert page.evaluate(wide) == [True, True]
    assert sideways(page) <= 0


def test_much_room_is_the_pictures(faked):
    page, _ = faked(viewport={"width": 2560, "height": 1440})
    picture = page.get_by_test_id("preview").bounding_box()
    assert picture["width"] > 2560 / 3


# Of each turn on paper: whether it is cut by what it stands in, and the colour of its words.
PAPER = """() => [...document.querySelectorAll('[data-testid=turn]')].map((turn) => {
    const words = turn.querySelector('[data-testid=answer]');
    let whole = turn.getBoundingClientRect().height > 0;
    for (let e = turn; e; e = e.parentElement) whole &&= getComputedStyle(e).overflowY === 'visible';
    return [whole, getComputedStyle(words).color];
})"""


def test_on_paper_all_of_it_is_black_on_white(faked):
    page, _ = faked(settings={"theme": "dark"})
    for number in range(5):
        ended(page, ask(page, f"How many circles are there, for the {number}. time?"))
    page.emulate_media(media="print")
    turns = page.evaluate(PAPER)
    assert len(turns) == 5 and all(whole for whole, _ in turns)
    assert all(max(map(int, re.findall(r"\d+", colour)[:3])) < 64 for _, colour in turns), turns
    ground = "() => [document.documentElement, document.body].map((e) => getComputedStyle(e).backgroundColor)"
    assert page.evaluate(ground) == 2 * ["rgba(0, 0, 0, 0)"]
    assert page.evaluate("() => getComputedStyle(document.documentElement).colorScheme") == "light"
    for name in ("question", "settings", "latency"):
        assert not page.get_by_test_id(name).first.is_visible(), name
    assert page.get_by_test_id("preview").is_visible()


# What can be tapped, and is not hit from a fingertip around its middle: a link in words need not be, nor what nobody sees.
SMALL = """() => {
    const all = 'button, a[href], label.choice, input:not(.offscreen, [type=radio], [type=checkbox]), textarea, summary';
    const seen = (e) => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && !e.closest('p') && !e.matches('.skip');
    const hit = (e) => {
        const {left, top, width, height} = e.getBoundingClientRect();
        if (width >= 43.5 && height >= 43.5) return true;
        e.scrollIntoView({block: 'nearest'});
        const box = e.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
        const half = (size) => Math.max(21, size / 2 - 1);
        return [[-1, 0], [1, 0], [0, -1], [0, 1]].every(([across, down]) =>
            e.contains(document.elementFromPoint(x + across * half(width), y + down * half(height))));
    };
    return [...document.querySelectorAll(all)].filter((e) => seen(e) && e.getBoundingClientRect().width > 0 && !hit(e))
        .map((e) => `${e.dataset.testid ?? e.className}: ${e.getBoundingClientRect().width} × ${e.getBoundingClientRect().height}`);
}"""


def test_a_finger_hits_what_it_is_meant_to(open_page, circles):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    assert page.evaluate(SMALL) == []
    give(page, circles)
    card(page, "ready").wait_for()
    assert page.evaluate(SMALL) == []
    turn = ask(page, "How many circles are there?")
    ended(page, turn)
    turn.get_by_test_id("latency").click()
    turn.get_by_test_id("latency-panel").wait_for()
    assert page.evaluate(SMALL) == []
    turn.get_by_test_id("regenerate").click()
    page.get_by_test_id("version").wait_for()
    assert page.evaluate(SMALL) == []
    for dialog in ("settings", "history"):
        page.get_by_test_id(dialog).click()
        page.locator("dialog[open]").wait_for()
        page.wait_for_timeout(300)
        assert page.evaluate(SMALL) == []
        page.keyboard.press("Escape")
    page.get_by_test_id("enlarge").click()
    page.get_by_test_id("stage").wait_for()
    assert page.evaluate(SMALL) == []
