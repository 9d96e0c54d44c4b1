"""What the browser tests do with the page."""

import io
import time
from importlib import resources

from PIL import Image, ImageDraw

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
# A page that a service worker serves asks for nothing that a test could hold back; where that is the matter, a test lets it.
WORKERS = {"service_workers": "block"}
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()


def picture(width=640, height=480, circles=3, colour="red", ground="white", format="PNG", **options):
    """A scene of circles in a row, as a file's bytes."""
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    size = width // 6
    for i in range(circles):
        x, y = int(width * (i + 0.6) / (circles + 0.6)), height // 2
        draw.ellipse((x - size // 2, y - size // 2, x + size // 2, y + size // 2), fill=colour)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def give(page, file):
    """Chooses a picture."""
    page.get_by_test_id("file-input").set_input_files(file)


def bring(page, how, *names, data=None):
    """Drops or pastes files of these names onto the page."""
    page.evaluate(
        """([how, names, bytes]) => {
            const data = new DataTransfer();
            const type = (name) => name.endsWith('.txt') ? 'text/plain' : 'image/png';
            for (const name of names) data.items.add(new File([new Uint8Array(bytes)], name, {type: type(name)}));
            const options = {bubbles: true, cancelable: true};
            if (how === 'paste')
                document.body.dispatchEvent(new ClipboardEvent('paste', {...options, clipboardData: data}));
            else for (const kind of how === 'drop' ? ['dragenter', 'dragover', 'drop'] : [how])
                document.body.dispatchEvent(new DragEvent(kind, {...options, dataTransfer: data}));
        }""",
        [how, names, list(picture() if data is None else data)],
    )


def card(page, phase):
    return page.locator(f"[data-testid=picture-card][data-phase={phase}]")


def ask(page, text):
    """Types a question and sends it, with Enter where there is a keyboard; the new turn."""
    turns = page.get_by_test_id("turn")
    before = turns.count()
    page.get_by_test_id("question").fill(text)
    if page.evaluate("() => matchMedia('(pointer: fine)').matches"):
        page.get_by_test_id("question").press("Enter")
    else:
        page.get_by_test_id("send").click()
    turn = turns.nth(before)
    turn.wait_for()
    return turn


def ended(page, turn, phase="done"):
    """Waits for the end of an answer; its text."""
    page.wait_for_function(
        "([turn, phase]) => turn.dataset.phase === phase", arg=[turn.element_handle(), phase], timeout=60_000
    )
    # The last words are drawn in the frame after they came.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return turn.get_by_test_id("answer").inner_text()


class Time:
    """Of a page, from before it is opened: it stands still, so that how busy the machine is changes nothing."""

    FRAME = 20

    def __init__(self, page):
        self.page = page
        # On the clock of a server that the page talks to.
        self.ms = 0.0
        # How far the page's clock is ahead of that, in ms; none as long as no time has passed.
        self.page_ahead = None
        page.clock.install(time=0)
        page.clock.pause_at(1)

    def passes(self, ms):
        """So much of it, with all that falls due in it."""
        if self.page_ahead is None:
            self.page_ahead = self.page.evaluate("() => performance.now()") - self.ms
        self.ms += ms
        self.page.clock.run_for(ms)

    def until(self, true, seconds=60):
        """Waits for what needs no time but the page's own work: frame by frame, since it draws in frames."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"still not true after {seconds} s"
            self.passes(self.FRAME)


def violations(page):
    """What axe-core finds wrong on the page."""
    if not page.evaluate("() => !!window.axe"):
        page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [f"{v['id']}: {[n['target'] for n in v['nodes']]}" for v in found["violations"]]


def phase(page, turn, name):
    """Waits for a turn to be in a phase."""
    page.wait_for_function("([t, p]) => t.dataset.phase === p", arg=[turn.element_handle(), name])


# The ids of the conversations that the browser keeps.
COUNT = """() => new Promise((done) => {
    const open = indexedDB.open('glimpse', 1);
    open.onsuccess = () => {
        const all = open.result.transaction('conversations').objectStore('conversations').getAll();
        all.onsuccess = () => { open.result.close(); done(all.result.map((c) => c.id)); };
    };
})"""
TURNS = COUNT.replace("c.id", "JSON.parse(c.turns).length + JSON.parse(c.asking).length")
# How many turns of each are over.
OVER = COUNT.replace("c.id", "JSON.parse(c.turns).filter((turn) => turn.finish || turn.failure).length")


def kept(page, turns):
    """Waits until the browser keeps a conversation with so many turns, answered or not."""
    until(page, lambda: turns in page.evaluate(TURNS))


def kept_over(page, *turns):
    """Waits until the browser keeps just these conversations, each with so many turns that are over: a question is kept before its
    answer is, and what is not kept yet does not outlive a reload."""
    until(page, lambda: sorted(page.evaluate(OVER)) == sorted(turns))


def until(page, true, seconds=30):
    """Waits for `true()`, with the page's events going on."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"still not true after {seconds} s"
        page.wait_for_timeout(20)
