"""Conversations come and go, and leave nothing behind."""

from driving import DESKTOP, picture
from fake import Fake

# The module's memory, which the page itself shows nobody.
MEMORY = """{
    for (const name of ['instantiate', 'instantiateStreaming']) {
        const made = WebAssembly[name];
        WebAssembly[name] = async (...of) => {
            const result = await made.apply(WebAssembly, of);
            window.memory = (result.instance ?? result).exports.memory;
            return result;
        };
    }
}"""

# A conversation from the drop to "New". All of it from within the page: what drives a browser from outside leaves listeners and
# handles of its own on what it touches.
TALK = """async ([bytes, times]) => {
    const until = async (done) => { while (!done()) await new Promise(requestAnimationFrame); };
    const one = (selector) => document.querySelector(selector);
    const all = (selector) => [...document.querySelectorAll(selector)];
    for (let i = 0; i < times; i++) {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], 'circles.png', {type: 'image/png'}));
        document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: data}));
        await until(() => one('[data-testid=picture-card][data-phase=ready]'));
        for (const question of ['How many?', 'And now?']) {
            const field = one('textarea');
            field.value = question;
            field.dispatchEvent(new Event('input', {bubbles: true}));
            field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true}));
            await until(() => all('[data-testid=turn]').length > 0 && field.value === '');
            await until(() => all('[data-testid=turn]').every((turn) => turn.dataset.phase === 'done'));
        }
        one('[data-testid=new]').click();
        await until(() => one('[data-testid=drop-zone]'));
    }
}"""


def test_a_hundred_conversations_leave_nothing_behind(browser, server):
    context = browser.new_context(viewport=DESKTOP, locale="en-US")
    context.add_init_script(MEMORY)
    page = context.new_page()
    page.set_default_timeout(60_000)
    Fake(page)
    page.goto(server.url)
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    tools = context.new_cdp_session(page)
    tools.send("Performance.enable")

    def measure():
        page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
        tools.send("HeapProfiler.collectGarbage")
        metrics = {m["name"]: m["value"] for m in tools.send("Performance.getMetrics")["metrics"]}
        module = page.evaluate("() => window.memory.buffer.byteLength")
        return metrics["JSEventListeners"], metrics["Nodes"], metrics["JSHeapUsedSize"], module

    def left():
        """Listeners, nodes, bytes of script and of the module, once what is on its way out or into the store is gone."""
        before, now = None, measure()
        for _ in range(200):
            if before and before[:2] == now[:2]:
                break
            before, now = now, measure()
        return now

    bytes = list(picture())
    # What grows once has grown.
    page.evaluate(TALK, [bytes, 70])
    listeners, nodes, script, module = before = left()
    page.evaluate(TALK, [bytes, 100])
    after = left()
    context.close()
    # A single listener or node for each conversation would be a hundred.
    assert after[0] <= listeners + 20, (before, after)
    assert after[1] <= nodes + 50, (before, after)
    # The module's memory grows in pages of 64 KiB and never shrinks.
    assert after[2] <= script + 300_000, (before, after)
    assert after[3] <= module + 2 * 65_536, (before, after)
