"""A picture in, words out."""

import json
import re
import urllib.request

import pytest

from driving import PHONE, ask, bring, card, ended, give, picture


def test_a_picture_is_answered(open_page, circles):
    page = open_page()
    assert page.locator("input[type=file]").count() == 1
    assert page.locator("textarea").count() == 1
    give(page, circles)
    card(page, "ready").wait_for()
    assert "circles.png" in page.get_by_test_id("picture-card").inner_text()
    turn = ask(page, "How many circles are there?")
    answer = ended(page, turn)
    assert re.search(r"\b(3|three)\b", answer, re.I), answer
    assert re.fullmatch(r"[\d.]+ m?s", turn.get_by_test_id("latency").inner_text().strip())
    # A second question about the same picture, in its own turn.
    turn = ask(page, "图里有几个圆？")
    answer = ended(page, turn)
    assert re.search(r"3|三", answer), answer
    assert page.get_by_test_id("turn").count() == 2


def test_a_question_of_nothing_to_be_seen_is_not_sent(open_page, circles):
    page = open_page()
    give(page, circles)
    question, send = page.get_by_test_id("question"), page.get_by_test_id("send")
    for nothing in ("", " ", "\u200b", "\ufeff\u2060 \u00ad", "\u3164"):
        question.fill(nothing)
        assert send.is_disabled(), ascii(nothing)
        question.press("Enter")
    assert page.get_by_test_id("turn").count() == 0
    question.fill("\u200b?")
    assert send.is_enabled()


def test_received_stands_before_a_byte_has_left(open_page, circles):
    page = open_page()
    # What the page shows at the end of the very event that brought the picture, and what it has sent by then.
    page.evaluate(
        """() => {
            const sent = [];
            const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function (data) {
                if (typeof data !== 'string') sent.push(data.byteLength);
                return send.call(this, data);
            };
            window.seen = null;
            document.querySelector('input[type=file]').addEventListener('change', () => {
                queueMicrotask(() => queueMicrotask(() => {
                    const card = document.querySelector('[data-testid=picture-card]');
                    window.seen = {card: card && card.innerText, bytes: sent.length};
                }));
            });
        }"""
    )
    give(page, circles)
    page.wait_for_function("() => window.seen")
    seen = page.evaluate("() => window.seen")
    assert seen["bytes"] == 0
    assert seen["card"] and "circles.png" in seen["card"], seen
    card(page, "ready").wait_for()


def test_asked_before_the_picture_is_there(open_page):
    page = open_page()
    # Not compressible, so that the upload takes a moment.
    import os

    data = picture(format="BMP") + os.urandom(6_000_000)
    give(page, {"name": "big.bmp", "mimeType": "image/bmp", "buffer": data})
    turn = ask(page, "How many circles are there?")
    assert re.search(r"\b(3|three)\b", ended(page, turn), re.I)


def test_words_are_added_and_nothing_else_is_drawn_again(open_page, circles):
    page = open_page()
    give(page, circles)
    card(page, "ready").wait_for()
    first = ask(page, "How many circles are there?")
    ended(page, first)
    # What draws answers is loaded with the first one and may come after its end; then it draws that once.
    first.locator("[data-testid=answer] p").wait_for()
    # Nothing in the first turn, the picture or the composer may change while the second answer comes.
    page.evaluate(
        """() => {
            window.changes = [];
            const watch = (node) => new MutationObserver((all) => all.forEach((m) => window.changes.push(
                m.type + ' ' + m.target.nodeName + ' ' + (m.target.className || ''))))
                .observe(node, {childList: true, subtree: true, characterData: true, attributes: true});
            watch(document.querySelector('[data-testid=turn] [data-testid=answer]'));
            watch(document.querySelector('[data-testid=picture-card]'));
            window.removed = 0;
            new MutationObserver((all) => all.forEach((m) => { window.removed += m.removedNodes.length; }))
                .observe(document.querySelector('.turns'), {childList: true});
        }"""
    )
    second = ask(page, "What is in the picture?")
    ended(page, second)
    assert page.evaluate("() => window.changes") == []
    assert page.evaluate("() => window.removed") == 0


def test_keys_that_send_and_keys_that_do_not(open_page, circles):
    page = open_page()
    give(page, circles)
    question = page.get_by_test_id("question")
    question.fill("one")
    question.press("Shift+Enter")
    question.press_sequentially("two")
    assert question.input_value() == "one\ntwo"
    assert page.get_by_test_id("turn").count() == 0
    # Enter that ends an input method's composition, as Chromium and as Safari report it.
    for event in ("{key: 'Enter', isComposing: true}", "{key: 'Enter', keyCode: 229}"):
        page.evaluate(
            f"""() => document.querySelector('textarea').dispatchEvent(
                new KeyboardEvent('keydown', Object.assign({{bubbles: true, cancelable: true}}, {event})))"""
        )
    assert page.get_by_test_id("turn").count() == 0
    question.fill("   ")
    question.press("Enter")
    assert page.get_by_test_id("turn").count() == 0
    question.fill("How many circles are there?")
    question.press("Enter")
    assert page.get_by_test_id("turn").count() == 1
    assert question.input_value() == ""


def test_a_question_needs_a_picture(open_page):
    page = open_page()
    page.get_by_test_id("question").fill("What is it?")
    page.get_by_test_id("question").press("Enter")
    assert "picture" in page.get_by_test_id("notice").inner_text()
    assert page.get_by_test_id("question").input_value() == "What is it?"


def test_a_file_that_is_no_picture_fails_with_a_way_out(open_page, circles):
    page = open_page()
    give(page, {"name": "broken.png", "mimeType": "image/png", "buffer": b"this is no picture" * 100})
    card(page, "failed").wait_for()
    assert len(page.get_by_test_id("picture-failure").inner_text()) > 20
    # The next picture works.
    give(page, circles)
    card(page, "ready").wait_for()
    assert re.search(r"\b(3|three)\b", ended(page, ask(page, "How many circles are there?")), re.I)


def test_new_conversation(open_page, circles):
    page = open_page()
    give(page, circles)
    card(page, "ready").wait_for()
    ended(page, ask(page, "How many circles are there?"))
    page.get_by_test_id("new").click()
    page.get_by_test_id("drop-zone").wait_for()
    assert page.get_by_test_id("turn").count() == 0


def test_dropped_and_pasted(open_page, circles):
    page = open_page()
    for how in ("drop", "paste"):
        bring(page, how, f"{how}.png", data=circles["buffer"])
        card(page, "ready").wait_for()
        assert f"{how}.png" in page.get_by_test_id("picture-card").inner_text()


def test_a_sample_shows_what_to_ask(open_page, server):
    with urllib.request.urlopen(f"{server.url}/samples/samples.json", timeout=10) as answer:
        samples = json.load(answer)
    page = open_page()
    buttons = page.get_by_test_id("sample")
    buttons.first.wait_for()
    assert [b.locator("img").get_attribute("alt") for b in buttons.all()] == [s["alt"]["en"] for s in samples]
    buttons.first.click()
    suggestions = page.get_by_test_id("suggestion")
    suggestions.first.wait_for()
    assert [s.inner_text() for s in suggestions.all()] == [q["en"] for q in samples[0]["questions"]]
    suggestions.first.click()
    turn = page.get_by_test_id("turn").first
    turn.wait_for()
    assert ended(page, turn).startswith(samples[0]["answers"][0]["en"])
    assert suggestions.count() == 0


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "does not come"])
def test_what_is_asked_before_a_sample_is_there_waits_for_it(faked, comes):
    held, open = [], []
    hold = lambda route: route.continue_() if open and comes else route.abort() if open else held.append(route)
    page, fake = faked(with_picture=False, routes={"**/samples/*.jpg": hold}, tolerate=("WebSocket", "ERR_FAILED"))
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    page.get_by_test_id("sample").first.click()
    page.get_by_test_id("question").fill("What is it?")
    page.get_by_test_id("question").press("Enter")
    page.get_by_test_id("asked-of-it").get_by_text("What is it?").wait_for()
    assert page.get_by_test_id("question").input_value() == "" and page.get_by_test_id("notice").count() == 0
    open.append(True)
    for route in held:
        hold(route)
    if comes:
        page.get_by_test_id("answer").get_by_text("There are three circles.").wait_for()
        assert [asked["text"] for asked in fake.asks()] == ["What is it?"]
        assert page.get_by_test_id("asked-of-it").count() == 0
    else:
        page.get_by_test_id("notice").get_by_text("Choose it again").wait_for()
        assert page.get_by_test_id("question").input_value() == "What is it?"
        assert page.get_by_test_id("turn").count() == 0


def test_several_files_and_a_new_picture_in_a_conversation(open_page, circles):
    page = open_page()
    bring(page, "drop", "first.png", "second.png")
    page.get_by_text("One picture at a time").first.wait_for()
    card(page, "ready").wait_for()
    assert "first.png" in page.get_by_test_id("picture-card").inner_text()
    ended(page, ask(page, "How many circles are there?"))
    # A new picture starts a new conversation; what is no picture changes nothing.
    bring(page, "drop", "notes.txt", data=b"words")
    page.get_by_text("That is not a picture").first.wait_for()
    assert page.get_by_test_id("turn").count() == 1
    bring(page, "drop", "third.png", data=picture(circles=2))
    card(page, "ready").wait_for()
    assert page.get_by_test_id("turn").count() == 0
    assert re.search(r"\b(2|two)\b", ended(page, ask(page, "How many circles are there?")), re.I)


def test_the_camera_on_a_phone(open_page):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.evaluate(
        """() => {
            const click = HTMLInputElement.prototype.click;
            HTMLInputElement.prototype.click = function () { window.capture = this.getAttribute('capture'); return click.call(this); };
        }"""
    )
    for button, capture in (("camera", "environment"), ("choose", None)):
        with page.expect_file_chooser():
            page.get_by_test_id(button).click()
        assert page.evaluate("() => window.capture") == capture


def test_the_demo_says_what_it_is(open_page):
    page = open_page()
    page.get_by_test_id("demo").click()
    words = page.get_by_test_id("demo-words").inner_text()
    for word in ("shapes", "Chinese", "Photographs", "make serve", "glimpse serve --model"):
        assert word in words
    page.keyboard.press("Escape")
    assert page.get_by_test_id("demo").evaluate("e => e === document.activeElement")


def test_a_connection_that_breaks_comes_back(open_page, circles):
    # The page may look for a newer one of itself just then.
    page = open_page(tolerate=("WebSocket", "ERR_INTERNET_DISCONNECTED"))
    give(page, circles)
    card(page, "ready").wait_for()
    context = page.context
    context.set_offline(True)
    page.evaluate(
        """() => window.dispatchEvent(new Event('online'))"""  # a change of network: the page looks after its socket
    )
    context.set_offline(False)
    page.locator("[data-testid=server-state][data-light=good]").wait_for(timeout=30_000)
    assert re.search(r"\b(3|three)\b", ended(page, ask(page, "How many circles are there?")), re.I)


def test_on_a_phone(open_page, circles):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    give(page, circles)
    card(page, "ready").wait_for()
    assert re.search(r"\b(3|three)\b", ended(page, ask(page, "How many circles are there?")), re.I)
    overflow = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0
