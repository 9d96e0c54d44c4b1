"""What each browser grants or refuses: a store, a service worker, a secure origin; and what the person chooses."""

import re
import socket

import pytest
from selenium.webdriver.common.keys import Keys

from line import Line
from pages import Page
from test_everywhere import HOW_MANY, THREE, talked

# As in Safari's private windows.
NO_BLOBS = """
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (record, ...rest) {
        window.asked = true;
        if (Object.values(record).some((value) => value instanceof Blob)) throw new DOMException('no Blobs', 'DataCloneError');
        return put.call(this, record, ...rest);
    };
"""
NOTHING = """
    IDBObjectStore.prototype.put = () => { throw new DOMException('no room for you', 'UnknownError'); };
"""
WORKER = """
    const done = arguments[0];
    if (!navigator.serviceWorker) done('none');
    else navigator.serviceWorker.ready.then(() => done('ready'));
"""


@pytest.mark.phone_too
def test_language_and_theme_are_chosen_and_stay(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.script(ground)
    chooses(page, "language", 1)
    page.says("把图片拖到这里", "选择图片")
    chooses(page, "theme", 2)
    page.until(lambda: page.script(ground) != light)
    page.driver.refresh()
    page.good()
    page.says("把图片拖到这里", "选择图片")
    assert page.script("return [document.documentElement.lang, document.documentElement.dataset.theme]") == ["zh", "dark"]
    assert page.script(ground) != light
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")


def chooses(page, name, at):
    """In the settings, where both are at any size."""
    page.click("settings")
    choices = f"input[name={name}]"
    page.press(f"label:has({choices})", at)
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.driver.find_elements("css selector", choices))


def test_bytes_are_kept_where_blobs_can_not_be(page, files):
    page.script(NO_BLOBS)
    talked(page, files)
    page.kept(1)
    assert page.script("return window.asked")
    page.driver.refresh()
    page.ready("circles.png")
    assert THREE.search(page.find("answer").text)
    page.until(lambda: page.script("return document.querySelector('[data-testid=preview]')?.naturalWidth > 0"))


def test_a_browser_that_keeps_nothing_is_said_to(page, files):
    page.script(NOTHING)
    page.give(files / "circles.png")
    page.says("This browser keeps nothing for this page")
    page.ready("circles.png")
    assert THREE.search(page.ask(HOW_MANY))


def test_while_the_server_is_away_the_page_opens_and_keeps_drafts(page):
    if page.driver.execute_async_script(WORKER) == "none":
        # What such a browser shows then is its own; but the page that is open goes on.
        assert page.driver.called == "webkit", "only WebKitGTK's automated windows, which are private, have no service worker"
        page.line.leaves()
        page.find("lost")
    else:
        page.line.leaves()
        # Not `refresh`: Firefox's driver has it pass the service worker by.
        page.driver.get(page.line.url)
        page.find("lost")
    page.type("Later, then")
    page.line.returns()
    page.good()
    assert page.draft() == "Later, then"


def own_address():
    """One of this machine that others on its network know it by. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def test_plain_http_on_a_local_network(driver, server, files):
    try:
        address = own_address()
    except OSError:
        pytest.skip("this machine has no address but its loopback's, which counts as secure")
    line = Line(server.port, address)
    try:
        page = Page(driver, line)
        assert not page.script("return isSecureContext")
        talked(page, files)
        page.kept(1)
        page.driver.refresh()
        page.ready("circles.png")
        assert re.search("red", page.ask("What colour are they?"), re.I)
        page.click("history")
        page.until(lambda: "Over https the page can ask it not to" in page.find("room").text)
    finally:
        driver.get("about:blank")
        line.close()
