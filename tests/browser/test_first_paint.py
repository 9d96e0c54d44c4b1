"""What stands on the screen first, on a slow line and a slow machine."""

import json

import pytest

from driving import DESKTOP, PHONE, WORKERS
from fake import Fake

WATCH = """
    window.paints = [];
    window.shifts = [];
    const watch = (type, hear) => new PerformanceObserver((list) => list.getEntries().forEach(hear)).observe({type, buffered: true});
    watch('largest-contentful-paint', (e) => window.paints.push(
        {at: e.startTime, size: e.size, hero: !!e.element?.closest('.hero'), html: !!e.element?.closest('#boot'), what: e.element?.className}));
    watch('layout-shift', (e) => window.shifts.push({value: e.value, at: e.startTime}));
"""
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# What an element's text takes, in square pixels.
TEXT_SIZE = """element => {
    const text = document.createRange();
    text.selectNodeContents(element);
    const { width, height } = text.getBoundingClientRect();
    return width * height;
}"""
# 400 kbit a second, 400 ms there and back; a quarter of the processor.
BYTES_A_SECOND, THERE_AND_BACK, SLOWER = 50_000, 0.4, 4
# By when the largest paint is to be there, in seconds.
IN_TIME = 2.5


class Held:
    """The page, of which nothing but the document comes, until a test lets it."""

    def __init__(self, browser, server, viewport, locale):
        self.context = browser.new_context(viewport=viewport, locale=locale, **WORKERS)
        self.page = page = self.context.new_page()
        page.set_default_timeout(120_000)
        page.add_init_script(WATCH)
        Fake(page)
        self.waiting, self.passing = [], ()
        self.context.route("**/*", self.asked)
        browser.start_tracing(page=page, categories=["toplevel", "loading", "__metadata"])
        page.goto(server.url, wait_until="commit")
        page.wait_for_function("() => window.paints.length")
        self.trace = json.loads(browser.stop_tracing())["traceEvents"]

    def asked(self, route):
        if route.request.resource_type == "document" or route.request.url.endswith(self.passing):
            return route.continue_()
        self.waiting.append(route)

    def passes(self, *endings):
        """From now on files whose addresses end so come; whether any was waited for."""
        self.passing += endings
        ready = [route for route in self.waiting if route.request.url.endswith(endings)]
        self.waiting = [route for route in self.waiting if route not in ready]
        for route in ready:
            route.continue_()
        self.page.wait_for_timeout(100)
        self.page.evaluate(FRAMES)
        return bool(ready)

    def processor(self):
        """Seconds of the main thread's own time until the largest paint: how long it waited for a core is not in it."""
        painted = [e for e in self.trace if e["name"] == "largestContentfulPaint::Candidate"][-1]
        main = [(e["pid"], e["tid"]) for e in self.trace if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"]
        tasks = [e["tdur"] for e in self.trace if e["name"].endswith("RunTask") and "tdur" in e and e["ts"] < painted["ts"]
                 and e["pid"] == painted["pid"] and (e["pid"], e["tid"]) in main]
        assert tasks
        return sum(tasks) / 1e6


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_largest_paint_is_the_first_one_and_nothing_moves(browser, server, viewport, locale):
    held = Held(browser, server, viewport, locale)
    page = held.page
    # The hero stands there, and nothing has come but the page's own HTML.
    assert page.evaluate("() => window.paints.map((paint) => [paint.hero, paint.html])") == [[True, True]]
    assert page.evaluate("() => performance.getEntriesByType('resource').map((e) => e.name)") == []
    # So how soon it is there is known without a clock: a connection, a request, what the document weighs, and what it takes to draw.
    # It comes in one go: as much as a server may send before it has heard anything.
    sent = page.evaluate("() => performance.getEntriesByType('navigation')[0].transferSize")
    assert 0 < sent <= 14_600
    assert 2 * THERE_AND_BACK + sent / BYTES_A_SECOND + SLOWER * held.processor() <= IN_TIME, held.processor()
    # Where the line is so slow that the page says so, that is smaller.
    hint = page.locator(".boot-hint")
    assert hint.evaluate(TEXT_SIZE) < page.evaluate("() => window.paints[0].size")
    hint.evaluate("hint => Promise.all(hint.getAnimations().map((one) => one.finished))")
    assert hint.evaluate("hint => getComputedStyle(hint).opacity") == "1"
    page.evaluate(FRAMES)
    # Whatever comes then, one after another, is no larger and moves nothing: it is the last entry that counts.
    assert held.passes(".css")
    assert held.passes(".js")
    assert held.passes(".wasm")
    page.locator("#boot").wait_for(state="detached")
    page.locator("[data-testid=server-state][data-light=good]").wait_for(state="attached")
    held.passes("samples.json")
    page.get_by_test_id("sample").last.wait_for(state="attached")
    held.passes("")
    page.get_by_test_id("sample").last.locator("img").evaluate("image => image.decode()")
    page.evaluate(FRAMES)
    paints, shifts = page.evaluate("() => [window.paints, window.shifts]")
    assert len(paints) == 1, paints
    assert sum(shift["value"] for shift in shifts) <= 0.05, shifts
    held.context.close()


@pytest.mark.long
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_there_in_time(browser, server, viewport):
    """By the clock, so with nothing else running."""
    context = browser.new_context(viewport=viewport, locale="en-US", **WORKERS)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(WATCH)
    Fake(page)
    tools = context.new_cdp_session(page)
    tools.send("Network.enable")
    line = {"latency": 1e3 * THERE_AND_BACK, "downloadThroughput": BYTES_A_SECOND, "uploadThroughput": BYTES_A_SECOND}
    tools.send("Network.emulateNetworkConditions", {"offline": False, **line})
    tools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.goto(server.url, wait_until="commit")
    page.locator("[data-testid=server-state][data-light=good]").wait_for(state="attached")
    page.get_by_test_id("sample").last.locator("img").evaluate("image => image.decode()")
    page.evaluate(FRAMES)
    assert page.evaluate("() => window.paints.at(-1).at") <= 1e3 * IN_TIME
    context.close()
