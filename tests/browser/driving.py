"""What the browser tests do with the page."""

import io

from PIL import Image, ImageDraw

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


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


def card(page, phase):
    return page.locator(f"[data-testid=picture-card][data-phase={phase}]")


def ask(page, text):
    """Types a question and sends it with Enter; the new turn."""
    turns = page.get_by_test_id("turn")
    before = turns.count()
    page.get_by_test_id("question").fill(text)
    page.get_by_test_id("question").press("Enter")
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


def watch_long_tasks(page):
    """From now on, `window.long` holds how long each task took that held the main thread for over 50 ms."""
    page.evaluate(
        """() => {
            window.long = [];
            new PerformanceObserver((list) => list.getEntries().forEach((e) => window.long.push(e.duration)))
                .observe({type: 'longtask'});
        }"""
    )
