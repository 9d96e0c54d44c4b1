"""Scaling before sending: when it is done, and that the small picture shows what the large one did."""

import io
import os

import pytest
from PIL import Image, ImageCms, ImageDraw

from driving import card, give, until
from fake import LIMITS, MODEL

SIDE = 2 * 384
ALWAYS = {"scaling": "always"}


def demo(fake, message):
    fake.welcome(model={**MODEL, "image_size": 384})


def file(image, format="JPEG", **options):
    out = io.BytesIO()
    image.save(out, format, **{"quality": 95, **options})
    return out.getvalue()


def halves(width=2000, height=1500):
    """Red on the left, blue on the right, with some noise, which makes the file large."""
    image = Image.new("RGB", (width, height), "red")
    ImageDraw.Draw(image).rectangle((width // 2, 0, width, height), fill="blue")
    image.paste(Image.frombytes("RGB", (300, 300), os.urandom(270_000)), (width // 2 - 150, height // 2 - 150))
    return image


@pytest.fixture
def sent(faked):
    """What the server is sent for a file: the original's bytes, or a picture."""

    def sent(data, kind="image/jpeg", **options):
        page, fake = faked(**{"with_picture": False, "settings": ALWAYS, "hello": demo, **options})
        page.locator("[data-testid=server-state][data-light=good]").wait_for()
        give(page, {"name": "picture", "mimeType": kind, "buffer": data})
        card(page, "ready").wait_for()
        return bytes(fake.picture)

    return sent


def is_red(pixel):
    return pixel[0] > 200 and max(pixel[1:]) < 60


def is_blue(pixel):
    return pixel[2] > 200 and max(pixel[:2]) < 60


@pytest.mark.parametrize("size", [(2000, 1500), (1500, 2000), (4000, 1200)])
def test_neither_side_gets_shorter_than_the_model_needs(sent, size):
    image = Image.open(io.BytesIO(sent(file(halves(*size)))))
    assert min(image.size) == SIDE
    assert abs(image.size[0] / image.size[1] - size[0] / size[1]) < 0.01
    assert is_red(image.getpixel((10, 10))) and is_blue(image.getpixel((image.width - 10, 10)))


def test_it_stays_upright(sent):
    # Orientation 6: what is stored on the left is to be shown at the top.
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(sent(file(halves(), exif=exif))))
    assert image.height > image.width and not image.getexif().get(0x0112)
    assert is_red(image.getpixel((10, 10))) and is_blue(image.getpixel((10, image.height - 10)))


def test_a_colour_profile_changes_nothing(sent):
    # A profile in which red is green: the server takes the values as they are, and so must the small picture.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"\0\0\0\0").replace(b"gXYZ", b"rXYZ").replace(b"\0\0\0\0", b"gXYZ", 1)
    image = Image.open(io.BytesIO(sent(file(halves(), icc_profile=profile))))
    assert is_red(image.getpixel((10, 10))) and is_blue(image.getpixel((image.width - 10, 10)))


def test_white_under_what_is_transparent(sent):
    image = halves().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 600, 1500))
    image = Image.open(io.BytesIO(sent(file(image, "PNG"), "image/png")))
    assert min(image.getpixel((50, 50))) > 250 and is_red(image.getpixel((image.width // 2 - 50, 20)))


def test_the_original_goes_where_a_canvas_is_scrambled(sent, faked):
    # As browsers do against fingerprinting: what is read from a canvas is not quite what was drawn.
    scramble = """{
        const read = OffscreenCanvasRenderingContext2D.prototype.getImageData;
        OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...place) {
            const image = read.apply(this, place);
            image.data[40] ^= 1;
            return image;
        };
    }"""

    def scrambled(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=scramble + answer.text())

    data = file(halves())
    assert len(sent(data)) < len(data)
    assert sent(data, routes={"**/worker.js": scrambled}) == data


def test_the_original_goes_where_the_browser_cannot_decode_it(sent):
    data = os.urandom(200_000)
    assert sent(data, "image/heic") == data


def reads(*formats):
    return lambda fake, message: fake.welcome(formats=list(formats))


def test_what_the_server_does_not_read_goes_as_what_the_browser_makes_of_it(sent):
    image = Image.new("RGB", (640, 480), (250, 10, 10))
    # Whatever the person wants: the original would be of no use.
    original = {"scaling": "original"}
    data = file(image, "WEBP", lossless=True)
    assert sent(data, "image/webp", settings=original, hello=reads("jpeg", "webp")) == data
    small = Image.open(io.BytesIO(sent(data, "image/webp", settings=original, hello=reads("jpeg", "png"))))
    assert (small.format, small.size, small.convert("RGB").getpixel((320, 240))) == ("PNG", (640, 480), (250, 10, 10))
    large = file(halves(2000, 1500), "WEBP")
    copy = Image.open(io.BytesIO(sent(large, "image/webp", settings=original, hello=reads("jpeg", "png"))))
    assert (copy.format, copy.size) == ("JPEG", (2000, 1500))
    assert is_red(copy.getpixel((100, 100))) and is_blue(copy.getpixel((1900, 100)))


def test_the_original_goes_where_the_user_wants_it(sent):
    data = file(halves(3000, 2000), quality=98)
    assert sent(data, settings={"scaling": "original"}) == data


def test_scaled_by_itself_only_where_the_connection_is_slow(faked):
    first = {"name": "first.jpg", "mimeType": "image/jpeg", "buffer": file(Image.effect_noise((900, 700), 90), quality=95)}
    assert len(first["buffer"]) > 128 * 1024
    large = {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": file(Image.effect_noise((3000, 2000), 60), quality=90)}
    assert len(large["buffer"]) > 2_000_000

    def roomy(fake, message):
        fake.welcome(model={**MODEL, "image_size": 384}, limits={**LIMITS, "upload_window": 1 << 25})

    def whole(fake, message):
        fake.bytes -= message["bytes"]

    for ms, scales in ((1500, True), (1, False)):
        page, fake = faked(with_picture=False, stopped=True, hello=roomy, frame=whole)
        fake.time.until(page.locator("[data-testid=server-state][data-light=good]").count)
        for picture in (first, large):
            before = len(fake.heard_of("upload"))
            give(page, picture)
            # Nothing of the way takes any time but what is said here.
            until(page, lambda: len(fake.heard_of("upload")) > before and fake.bytes == 0)
            fake.time.passes(ms)
            fake.received(fake.heard_of("upload")[-1])
            fake.ready()
            fake.time.until(lambda: card(page, "ready").count() and picture["name"] in page.get_by_test_id("picture-card").inner_text())
        # Nothing was known of the connection when the first one left.
        assert [m["bytes"] == len(p["buffer"]) for m, p in zip(fake.heard_of("upload"), (first, large))] == [True, not scales]
        assert (len(fake.picture) < len(large["buffer"]) / 2) == scales
