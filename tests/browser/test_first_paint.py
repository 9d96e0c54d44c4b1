"""What stands on the screen first, on a slow line and a slow machine."""

import pytest

from driving import DESKTOP, PHONE, WORKERS
from fake import Fake

WATCH = """
    window.paints = [];
    window.shifts = [];
    const watch = (type, hear) => new PerformanceObserver((list) => list.getEntries().forEach(hear)).observe({type, buffered: true});
    watch('largest-contentful-paint', (e) => window.paints.push({at: e.startTime, size: e.size, what: e.element?.closest('.hero') ? 'hero' : 'other'}));
    watch('layout-shift', (e) => window.shifts.push({value: e.value, at: e.startTime}));
"""
RECEIVED = "(ending) => performance.getEntriesByType('resource').find((e) => e.name.endsWith(ending))?.responseEnd"
# 400 kbit a second, 400 ms there and back.
LINE = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}


def slow(browser, server, viewport, locale):
    context = browser.new_context(viewport=viewport, locale=locale, **WORKERS)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(WATCH)
    Fake(page)
    tools = context.new_cdp_session(page)
    tools.send("Network.enable")
    tools.send("Network.emulateNetworkConditions", LINE)
    tools.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(server.url, wait_until="commit")
    page.locator("[data-testid=server-state][data-light=good]").wait_for(state="attached")
    page.get_by_test_id("sample").last.locator("img").evaluate("image => image.decode()")
    page.wait_for_timeout(500)
    return page


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_largest_paint_is_the_first_one_and_nothing_moves(browser, server, viewport, locale):
    page = slow(browser, server, viewport, locale)
    paints, shifts = page.evaluate("() => [window.paints, window.shifts]")
    # The last entry is what counts: the hero, from the page's own HTML, long before the module is there; and what the module draws
    # in its place is no larger.
    assert paints[-1]["what"] == "hero", paints
    assert paints[-1]["at"] < page.evaluate(RECEIVED, "_bg.wasm") / 2
    assert sum(shift["value"] for shift in shifts) <= 0.05, shifts
    # What it takes comes in one go: as much as a server may send before it has heard anything.
    sent = page.evaluate("() => performance.getEntriesByType('navigation')[0].transferSize")
    assert sent <= 14_600
    page.context.close()


@pytest.mark.long
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_there_in_time(browser, server, viewport):
    page = slow(browser, server, viewport, "en-US")
    assert page.evaluate("() => window.paints.at(-1).at") <= 2_500
    page.context.close()
