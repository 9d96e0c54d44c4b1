"""Everyone can use it: assistive technology, plain http on a local network, a slow line."""

import gzip
import os
import re
import shutil
import urllib.request

import pytest

from driving import DESKTOP, PHONE, ask, card, ended, give, until, violations

@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(open_page, circles, viewport, scheme):
    page = open_page(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    assert violations(page) == []
    give(page, circles)
    card(page, "ready").wait_for()
    assert violations(page) == []
    turn = ask(page, "How many circles are there?")
    ended(page, turn)
    turn.get_by_test_id("latency").click()
    assert violations(page) == []
    for dialog in ("settings", "history"):
        page.get_by_test_id(dialog).click()
        page.locator("dialog[open]").wait_for()
        assert violations(page) == []
        page.keyboard.press("Escape")
    # Where there is no room for it in the bar, the language is one of the settings.
    page.get_by_test_id("settings").click()
    page.get_by_text("中文", exact=True).last.click()
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.documentElement.lang === 'zh'")
    assert violations(page) == []


def test_by_keyboard_alone(open_page, circles):
    page = open_page()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "question"
    give(page, circles)
    page.wait_for_function("() => document.activeElement.id === 'question'")
    card(page, "ready").wait_for()
    page.keyboard.type("How many circles are there?")
    page.keyboard.press("Enter")
    turn = page.get_by_test_id("turn").first
    ended(page, turn)
    page.keyboard.press("Shift+Tab")
    reached = set()
    for _ in range(12):
        reached.add(page.evaluate("() => document.activeElement.dataset.testid || document.activeElement.tagName"))
        page.keyboard.press("Shift+Tab")
    assert {"copy", "regenerate", "latency", "edit", "choose"} <= reached, reached


def test_plain_http_on_a_local_network(browser, server, circles):
    # The page as http://192.168.…: no secure context, hence no clipboard, no crypto.subtle, no crypto.randomUUID.
    address, port = "192.168.77.7", server.url.rsplit(":", 1)[1]
    insecure = browser.browser_type.launch(
        executable_path=next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))),
        chromium_sandbox=os.geteuid() != 0,
        args=["--disable-gpu", f"--host-resolver-rules=MAP {address} 127.0.0.1"],
    )
    try:
        page = insecure.new_page()
        page.set_default_timeout(60_000)
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"http://{address}:{port}")
        assert page.evaluate("() => [isSecureContext, !!navigator.clipboard, !!crypto.subtle]") == [False] * 3
        give(page, circles)
        card(page, "ready").wait_for()
        turn = ask(page, "How many circles are there?")
        answer = ended(page, turn)
        # The old way to copy works from a click.
        page.evaluate("() => document.addEventListener('copy', () => { window.copied = document.activeElement.value; })")
        turn.get_by_test_id("copy").click()
        page.wait_for_function("() => window.copied !== undefined")
        assert page.evaluate("() => window.copied") == answer
        # The same picture again: the hash is made without crypto.subtle.
        page.get_by_test_id("new").click()
        give(page, circles)
        card(page, "ready").wait_for()
        # What https would add is said where what is kept is shown, and only where there is none.
        page.get_by_test_id("history").click()
        page.get_by_test_id("room").get_by_text("Over https the page can ask it not to, can be installed, and opens while").wait_for()
        assert wrong == []
        page.goto(server.url)
        give(page, circles)
        card(page, "ready").wait_for()
        ended(page, ask(page, "How many circles are there?"))
        page.get_by_test_id("history").click()
        page.get_by_test_id("room").get_by_text("that this browser allows").wait_for()
        assert "https" not in page.get_by_test_id("room").inner_text()
    finally:
        insecure.close()


def fetch(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.headers, answer.read()


def test_it_is_small_and_soon_there(browser, server):
    _, index = fetch(server.url)
    module = re.search(r"/glimpse-page-[0-9a-f]+_bg\.wasm", index.decode())[0]
    headers, body = fetch(server.url + module)
    assert len(gzip.compress(body, 9)) <= 400_000
    assert "immutable" in headers["cache-control"]
    headers, _ = fetch(server.url)
    assert headers["cache-control"] == "no-cache"
    # Something is painted after a few kilobytes: before the module has come, however long that takes.
    context, held = browser.new_context(), []
    context.route("**/*.wasm", lambda route: held.append(route))
    page = context.new_page()
    page.goto(server.url, wait_until="commit")
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
    came = "() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
    assert sum(page.evaluate(f"({came})().map((entry) => entry.transferSize)")) <= 40_000
    until(page, lambda: held)
    assert page.locator("[data-testid=server-state]").count() == 0
    for route in held:
        route.continue_()
    page.locator("[data-testid=server-state]").first.wait_for()
    context.close()


def test_the_policy_is_in_force_and_every_word_about_it_heard(open_page):
    # What `open_page` would fail on: tolerated here, where it is provoked.
    page = open_page(tolerate=("Content Security Policy", "Content-Security-Policy"))
    heard = []
    page.on("console", lambda message: heard.append(message.text))
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
            const image = new Image();
            image.src = 'http://example.org/x.png';
            document.body.append(image);
            image.remove();
        }"""
    )
    until(page, lambda: len([text for text in heard if "Content Security Policy" in text]) >= 2)
    assert page.evaluate("() => window.ran") is None


def test_without_wasm_it_says_a_sentence(browser, server):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.url)
    hint = page.locator(".boot-hint")
    assert "WebAssembly" in hint.inner_text()
    # It is kept back for a moment, for the many who need it not, and then shown without a script.
    hint.evaluate("e => Promise.all(e.getAnimations().map((a) => a.finished))")
    assert hint.evaluate("e => getComputedStyle(e).opacity") == "1"
    context.close()
