#!/usr/bin/env python3
"""Writes the small pictures in fixtures/ and, into goldens.safetensors, what Pillow makes of each.

    python -m venv .venv && .venv/bin/pip install -r tests/pixels/requirements.txt
    .venv/bin/python tests/pixels/make_goldens.py

A golden is named `FILE/MODE/SIZE`, U8 [SIZE, SIZE, 3]. Mode `raw` is exactly `.convert("RGB")` and `.resize(BICUBIC)`;
mode `kind` first turns the picture upright, puts transparency on white, and keeps the upper 8 bits of 16-bit grays.
"""
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
SIZE = 24  # a downscale, for most
FRAME = (11, 7, 72, 54)  # of the GIFs whose frame is smaller than their screen
SIDE = 47  # of the JPEGs, which are also compared as decoded, with no resize


def scene(width, height, channels=3, seed=0):
    """Smooth shades, hard edges and noise: everything that tells one decoder or filter from another."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / (3 + c) + y / (7 - c) + c) for c in range(channels)]
    out = np.stack(waves, -1)
    out[(x // 6 + y // 5) % 4 == 0] = rng.integers(0, 2, channels) * 255
    out[y > height * 2 // 3] += rng.normal(0, 40, (height, width, channels))[y > height * 2 // 3]
    return np.clip(out, 0, 255).astype(np.uint8)


def png16(array):
    """A PNG of 16-bit channels, which Pillow can't write (but gray)."""
    height, width, channels = array.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    out = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    for kind, data in [(b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]:
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


def encoded(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def fixtures():
    rgb = Image.fromarray(scene(61, 47))
    gray = Image.fromarray(scene(61, 47, 1)[..., 0])
    rgba = Image.fromarray(scene(61, 47, 4))
    gray_alpha = Image.merge("LA", [gray, rgba.getchannel("A")])
    palette = rgb.quantize(16)

    yield "rgb.png", encoded(rgb, "PNG")
    yield "gray.png", encoded(gray, "PNG")
    yield "bilevel.png", encoded(gray.convert("1"), "PNG")
    yield "gray-alpha.png", encoded(gray_alpha, "PNG")
    yield "rgba.png", encoded(rgba, "PNG")
    yield "palette.png", encoded(palette, "PNG")
    yield "palette-transparent.png", encoded(palette, "PNG", transparency=bytes(range(0, 256, 16)))
    yield "rgb-transparent.png", encoded(rgb, "PNG", transparency=rgb.getpixel((0, 0)))
    noise = np.random.default_rng(7).integers(0, 256, (23, 31, 4))
    wide = (scene(31, 23, 4, 5).astype(np.int64) * 256 + noise).astype(np.uint16)
    wide[:5] &= 511  # some tones that Pillow does not clip
    for channels, name in [(1, "gray16"), (2, "gray-alpha16"), (3, "rgb16"), (4, "rgba16")]:
        yield f"{name}.png", png16(wide[..., :channels])
    yield "exif-6.png", encoded(rgb.crop((0, 0, 30, 20)), "PNG", exif=orientation(6))

    # Shapes: up, far down, thin, one pixel; and edges whose overshoot is clipped between the passes.
    yield "tiny.png", encoded(rgb.crop((0, 0, 5, 3)), "PNG")
    yield "pixel.png", encoded(rgb.crop((9, 9, 10, 10)), "PNG")
    yield "thin.png", encoded(Image.fromarray(scene(300, 2)), "PNG")
    yield "large.png", encoded(Image.fromarray(scene(400, 300)).quantize(8), "PNG")
    # Sizes on either side of Pillow's choice of the pass that comes first.
    for width, height in [(40, 40), (30, 36), (30, 37), (20, 25), (20, 24)]:
        y, x = np.mgrid[0:height, 0:width]
        checkers = ((x // 5 + y // 3) % 2 * 255).astype(np.uint8)
        yield f"checkers-{width}-{height}.png", encoded(Image.fromarray(checkers), "PNG")

    square = Image.fromarray(scene(SIDE, SIDE))
    small = {"quality": 85, "optimize": True}
    for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
        yield f"{name}.jpg", encoded(square, "JPEG", subsampling=subsampling, **small)
    for name in ["440", "411"]:
        array = np.ascontiguousarray(np.asarray(square))
        yield f"{name}.jpg", simplejpeg.encode_jpeg(array, 85, colorsubsampling=name)
    yield "progressive.jpg", encoded(square, "JPEG", progressive=True, **small)
    yield "restart.jpg", encoded(square, "JPEG", restart_marker_blocks=2, **small)
    yield "gray.jpg", encoded(square.convert("L"), "JPEG", **small)
    yield "rgb.jpg", encoded(square, "JPEG", keep_rgb=True, **small)
    cmyk = encoded(Image.fromarray(scene(SIDE, SIDE, 4), "CMYK"), "JPEG", **small)
    yield "cmyk.jpg", cmyk
    # The last byte of Adobe's marker says how the inks are coded: 2 is YCCK.
    at = cmyk.index(b"Adobe") + 11
    assert cmyk[at] == 0
    yield "ycck.jpg", cmyk[:at] + b"\2" + cmyk[at + 1 :]
    plain = encoded(square, "JPEG", **small)
    yield "extraneous.jpg", plain[:-2] + b"\0\1\2" + plain[-2:]
    for value in range(1, 9):
        crop = Image.fromarray(scene(30, 20))
        yield f"exif-{value}.jpg", encoded(crop, "JPEG", exif=orientation(value), quality=60, optimize=True)

    yield "lossy.webp", encoded(rgb, "WEBP", quality=80)
    yield "lossless.webp", encoded(rgb, "WEBP", lossless=True)
    yield "alpha-lossy.webp", encoded(rgba, "WEBP", quality=80, exact=True)
    yield "alpha-lossless.webp", encoded(rgba, "WEBP", lossless=True, exact=True)
    yield "exif-8.webp", encoded(rgb.crop((0, 0, 30, 20)), "WEBP", lossless=True, exif=orientation(8))
    frames = [rgb, Image.fromarray(scene(61, 47, seed=9))]
    yield "animated.webp", encoded(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])

    gif = encoded(palette, "GIF")
    yield "plain.gif", gif
    transparent = encoded(palette, "GIF", transparency=3)
    yield "transparent.gif", transparent
    yield "animated.gif", encoded(palette, "GIF", save_all=True, append_images=[frames[1].quantize(16)])
    for name, file in [("offset", gif), ("offset-transparent", transparent)]:
        # A screen of 80 × 60 with the frame at (11, 7).
        at = file.index(struct.pack("<BHHHH", 0x2C, 0, 0, 61, 47))
        moved = file[:6] + struct.pack("<HH", 80, 60) + file[10:at]
        yield f"{name}.gif", moved + struct.pack("<BHH", 0x2C, 11, 7) + file[at + 5 :]

    yield "rgb.bmp", encoded(rgb.crop((0, 0, 31, 23)), "BMP")
    yield "palette.bmp", encoded(palette.crop((0, 0, 31, 23)), "BMP")
    yield "rgba.bmp", encoded(rgba.crop((0, 0, 31, 23)), "BMP")

    yield "lzw.tif", encoded(rgb, "TIFF", compression="tiff_lzw")
    yield "deflate-rgba.tif", encoded(rgba, "TIFF", compression="tiff_adobe_deflate")
    yield "gray.tif", encoded(gray, "TIFF")
    yield "gray16.tif", encoded(Image.fromarray(wide[..., 0]), "TIFF")
    yield "cmyk.tif", encoded(Image.fromarray(scene(31, 23, 4), "CMYK"), "TIFF")
    yield "exif-6.tif", encoded(rgb.crop((0, 0, 30, 20)), "TIFF", exif=orientation(6))


def kind(image):
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
        alpha = rgba[..., 3:] / 255
        return Image.fromarray(np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8))
    return image.convert("RGB")


def on_white(gif):
    """Pillow paints what the first frame leaves bare in the palette's first colour; like a browser, we do not."""
    out = Image.new("RGB", gif.size, "white")
    out.paste(gif.crop(FRAME), FRAME)
    return out


def main():
    FIXTURES.mkdir(exist_ok=True)
    for old in FIXTURES.iterdir():
        old.unlink()
    goldens = {}
    for name, data in fixtures():
        (FIXTURES / name).write_bytes(data)
        whole = name.endswith(".jpg") and not name.startswith("exif")
        for mode, load in [("raw", lambda image: image.convert("RGB")), ("kind", kind)]:
            image = load(Image.open(io.BytesIO(data)))
            if (name, mode) == ("offset.gif", "kind"):
                image = on_white(image)
            for size in [SIDE] if whole else [SIZE]:
                resized = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
                if mode == "kind" and np.array_equal(resized, goldens[f"{name}/raw/{size}"]):
                    continue  # the reader falls back to `raw`
                goldens[f"{name}/{mode}/{size}"] = np.ascontiguousarray(resized)
    save_file(goldens, HERE / "goldens.safetensors")
    files = [f.stat().st_size for f in FIXTURES.iterdir()]
    print(f"{len(files)} pictures, {sum(files)} bytes; {len(goldens)} goldens")


main()
