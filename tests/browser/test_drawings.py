"""What is no picture of pixels, and what most browsers can't decode."""

import io
import re
from pathlib import Path

from PIL import Image

from driving import card, give, until

HEIF = Path(__file__).parent.parent / "pixels" / "heif"
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20" id="drawing" onload="window.ran = 1">
<script>window.ran = 1; parent.ran = 1</script>
<image href="http://example.org/x.png" width="9" height="9"/>
<rect width="20" height="20" fill="#f00"/><rect x="20" width="20" height="20" fill="#00f"/></svg>"""


def test_a_drawing_is_sent_as_pixels_and_nothing_of_it_runs_or_is_loaded(faked):
    page, fake = faked(with_picture=False)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    give(page, {"name": "two halves.svg", "mimeType": "image/svg+xml", "buffer": SVG})
    card(page, "ready").wait_for()
    sent = Image.open(io.BytesIO(bytes(fake.picture)))
    assert sent.format == "PNG" and sent.width == 2 * sent.height >= 2048
    assert sent.convert("RGB").getpixel((sent.width // 4, sent.height // 2)) == (255, 0, 0)
    assert sent.convert("RGB").getpixel((3 * sent.width // 4, sent.height // 2)) == (0, 0, 255)
    assert fake.heard_of("upload")[-1]["name"] == "two halves.svg.png"
    assert page.evaluate("() => [window.ran, document.querySelectorAll('#drawing').length]") == [None, 0]
    assert [url for url in asked if "example.org" in url] == []


def test_a_drawing_that_is_none_changes_nothing(faked):
    page, fake = faked()
    give(page, {"name": "broken.svg", "mimeType": "image/svg+xml", "buffer": b"<svg><rect"})
    page.get_by_text("That is not a picture").first.wait_for()
    assert len(fake.heard_of("upload")) == 1
    assert "circles.png" in page.get_by_test_id("picture-card").inner_text()


PIXELS = """async () => {
    const image = document.querySelector('[data-testid=preview]');
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def test_heic_is_shown_in_the_colours_of_the_screen(faked):
    shown = []
    for name in ("plain.heic", "p3.heic"):
        page, _ = faked(with_picture=False)
        give(page, {"name": name, "mimeType": "image/heic", "buffer": (HEIF / name).read_bytes()})
        page.get_by_test_id("preview").wait_for()
        until(page, lambda: re.search(r"\d+ × \d+", page.get_by_test_id("picture-card").inner_text()))
        shown.append(page.evaluate(PIXELS))
    plain, wide = shown
    assert len(plain) == len(wide)
    # The same numbers, of wider primaries: what is coloured gets more so, and stays what it is.
    spread = lambda pixels: sum(max(pixels[i : i + 3]) - min(pixels[i : i + 3]) for i in range(0, len(pixels), 4))
    assert 1.02 < spread(wide) / spread(plain) < 1.5
