"""The page in a real browser, served by the real binary: what `make serve` runs is what is tested."""

import json

import pytest

from driving import DESKTOP, WORKERS, Time, card, give, picture
from fake import Fake

BLOCKED = "Service Worker registration blocked"


@pytest.fixture
def open_page(browser, server):
    """Opens the page in a browser of its own, and fails the test on anything wrong in its console."""
    contexts, wrong = [], []

    def open_page(url=None, viewport=DESKTOP, wait=True, tolerate=(), **options):
        context = browser.new_context(viewport=viewport, **{"locale": "en-US", **WORKERS, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)

        def heard(message):
            text = message.text
            if message.type in ("error", "warning") and not any(word in text for word in (BLOCKED, *tolerate)):
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


@pytest.fixture(scope="session")
def circles():
    return {"name": "circles.png", "mimeType": "image/png", "buffer": picture()}


@pytest.fixture
def faked(browser, server, circles):
    """Opens the page on a fake server, with a picture given if asked for. With `stopped` no time passes on the page, nor on the
    server, but what the test lets pass: `fake.time`."""
    contexts, wrong = [], []

    def faked(with_picture=True, locale="en-US", viewport=DESKTOP, tolerate=("WebSocket",), settings=None, routes=None, stopped=False, **answers):
        context = browser.new_context(viewport=viewport, locale=locale, **WORKERS)
        contexts.append(context)
        if settings:
            context.add_init_script(f"localStorage.setItem('glimpse-settings', JSON.stringify({json.dumps(settings)}))")
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: wrong.append(m.text)
                if m.type == "error" and not any(t in m.text for t in tolerate) else None)
        for url, answer in (routes or {}).items():
            context.route(url, answer)
        fake = Fake(page, Time(page) if stopped else None, **answers)
        page.goto(server.url)
        if with_picture:
            shown(page, fake, page.locator("[data-testid=server-state][data-light=good]"))
            give(page, circles)
            shown(page, fake, card(page, "ready"))
        return page, fake

    def shown(page, fake, locator):
        if fake.time is None:
            return locator.wait_for()
        fake.time.until(lambda: locator.count())

    yield faked
    for context in contexts:
        context.close()
    assert not wrong, wrong
