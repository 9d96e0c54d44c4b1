#!/usr/bin/env python3
"""Writes tiff/: TIFFs of every kind that scanners, offices and science write, each with a PNG of the same pixels.

    python -m venv .venv && .venv/bin/pip install -r tests/pixels/requirements.txt
    .venv/bin/python tests/pixels/make_tiffs.py

`NAME.TWIN.tif` shows what `TWIN.png` shows. Where a kind loses something, as JPEG does, the twin is what Pillow reads.
"""
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

HERE = Path(__file__).parent / "tiff"
WIDTH, HEIGHT = 53, 37
TIFF = TiffImagePlugin


def scene(channels, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [127 + 120 * np.sin(x / (5 + c) + y / (9 - c) + c) for c in range(channels)]
    out = np.stack(waves, -1)
    out[(x // 6 + y // 5) % 4 == 0] = rng.integers(0, 2, channels) * 255
    return np.clip(out, 0, 255).astype(np.uint8)


def pillow(image, **options):
    out = io.BytesIO()
    image.save(out, "TIFF", **options)
    return out.getvalue()


def science(array, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, array, metadata=None, **options)
    return out.getvalue()


def patched(file, tag, value):
    """`file`, little endian, with another value for a SHORT or LONG of its first directory."""
    out = bytearray(file)
    at = struct.unpack_from("<I", out, 4)[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", out, at)[0], 12):
        found, kind = struct.unpack_from("<HH", out, entry)
        if found == tag:
            struct.pack_into("<H" if kind == 3 else "<I", out, entry + 8, value)
            return bytes(out)
    raise KeyError(tag)


def made(tags, data, order="<", big=False):
    """A TIFF of one strip with these tags (tag, type, values), all values in the directory or behind it."""
    entry_size, field = (20, 8) if big else (12, 4)
    head = (b"II" if order == "<" else b"MM") + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    tags = sorted(tags + [(273, 16 if big else 4, [0]), (279, 16 if big else 4, [len(data)])])
    directory = len(head) + (8 if big else 2) + entry_size * len(tags) + field
    behind, entries = b"", b""
    letters = {1: "B", 3: "H", 4: "I", 5: "I", 16: "Q"}
    sizes = []
    for tag, kind, values in tags:
        if tag == 273:
            sizes.append(None)
            continue
        packed = b"".join(struct.pack(order + letters[kind], value) for value in values)
        sizes.append(packed)
    total = directory + sum(len(p) + len(p) % 2 for p in sizes if p is not None and len(p) > field)
    offset = directory
    for (tag, kind, values), packed in zip(tags, sizes):
        count = len(values) // 2 if kind == 5 else len(values)
        if packed is None:
            packed = struct.pack(order + ("Q" if big else "I"), total)
        if len(packed) > field:
            behind += packed + b"\0" * (len(packed) % 2)
            value = struct.pack(order + ("Q" if big else "I"), offset)
            offset = directory + len(behind)
        else:
            value = packed.ljust(field, b"\0")
        entries += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + value
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return head + count + entries + b"\0" * field + behind + data


def base(bits, samples, photometric, packing=1):
    return [
        (256, 3, [WIDTH]), (257, 3, [HEIGHT]), (258, 3, [bits] * samples), (259, 3, [packing]),
        (262, 3, [photometric]), (277, 3, [samples]), (278, 3, [HEIGHT]),
    ]


def bits_of(array, bits):
    """Rows of values of so many bits, the highest first, each row in whole bytes."""
    planes = (array[..., None] >> np.arange(bits)[::-1]) & 1
    rows = planes.reshape(HEIGHT, -1).astype(np.uint8)
    return np.packbits(rows, axis=1).tobytes()


def reversed_bits(data):
    return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes()


def pictures():
    rgb, rgba = scene(3), scene(4, 1)
    rgba[..., 3][:9] = 0
    rgba[..., 3][9:14] = 255
    gray, alpha = scene(1)[..., 0], rgba[..., 3]
    photo, gray_photo = Image.fromarray(rgb), Image.fromarray(gray)
    bilevel = gray_photo.point(lambda v: 255 * (v > 127)).convert("1")
    palette = photo.quantize(256)
    small_palette = photo.quantize(13)

    yield "rgb", rgb, [
        *((name, pillow(photo, compression=name)) for name in ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"]),
        *((f"{name}-predictor", pillow(photo, compression=name, tiffinfo={317: 2})) for name in ["tiff_lzw", "zstd"]),
        ("raw", pillow(photo)),
        ("big-endian", science(rgb, byteorder=">", photometric="rgb")),
        ("bigtiff", science(rgb, bigtiff=True, photometric="rgb", compression="zlib")),
        ("bigtiff-big-endian", science(rgb, bigtiff=True, byteorder=">", photometric="rgb")),
        ("strips", science(rgb, rowsperstrip=5, photometric="rgb", compression="lzw")),
        ("tiles", science(rgb, tile=(16, 32), photometric="rgb", compression="zlib", predictor=True)),
        ("large-tile", science(rgb, tile=(128, 256), photometric="rgb", compression="zlib")),
        ("planar", science(np.moveaxis(rgb, 2, 0), planarconfig="separate", photometric="rgb", rowsperstrip=10, compression="lzw", predictor=True)),
        ("planar-tiles", science(np.moveaxis(rgb, 2, 0), planarconfig="separate", photometric="rgb", tile=(16, 16))),
        ("16", science(rgb.astype(np.uint16) * 257, photometric="rgb", compression="zlib", predictor=True)),
        ("16-big-endian", science(rgb.astype(np.uint16) * 257, photometric="rgb", byteorder=">", compression="lzw", predictor=True)),
        ("32", science(rgb.astype(np.uint32) * 0x01010101, photometric="rgb", compression="zlib", predictor=True)),
        ("float32", science((rgb / 255).astype(np.float32), photometric="rgb", compression="zlib", predictor=3)),
        ("float32-big-endian", science((rgb / 255).astype(np.float32), photometric="rgb", byteorder=">", compression="zlib", predictor=3)),
        ("float16", science((rgb / 255).astype(np.float16), photometric="rgb")),
        ("float64", science((rgb / 255).astype(np.float64), photometric="rgb", compression="zlib")),
        ("strip-a-row", science(rgb, photometric="rgb", rowsperstrip=1)),
        ("extra-unspecified", science(np.dstack([rgb, alpha]), photometric="rgb", extrasamples=[0])),
        ("fill-order", patched(made(base(8, 3, 2) + [(266, 3, [1])], reversed_bits(rgb.tobytes())), 266, 2)),
        ("pages", pillow(photo, compression="tiff_lzw", save_all=True, append_images=[gray_photo])),
    ]
    yield "gray", gray, [
        ("raw", pillow(gray_photo)),
        ("white-is-zero", made(base(8, 1, 0), (255 - gray).tobytes())),
        ("16", science(gray.astype(np.uint16) * 257, photometric="minisblack", compression="lzw", predictor=True)),
        ("16-big-endian", science(gray.astype(np.uint16) * 257, photometric="minisblack", byteorder=">")),
        ("32", science(gray.astype(np.uint32) * 0x01010101, photometric="minisblack")),
        ("int32", pillow(gray_photo.convert("I"))),
        ("int32-of-16", science(gray.astype(np.int32) * 257, photometric="minisblack")),
        ("int16-of-8", science(gray.astype(np.int16), photometric="minisblack")),
        ("float32-of-255", pillow(gray_photo.convert("F"))),
        ("float32", science((gray / 255).astype(np.float32), photometric="minisblack", compression="zlib", predictor=3)),
        ("float16", science((gray / 255).astype(np.float16), photometric="minisblack", compression="zlib", predictor=3)),
        ("float64", science((gray / 255).astype(np.float64), photometric="minisblack")),
        ("12", made(base(12, 1, 1), bits_of(gray.astype(np.uint16) * 16 + 7, 12))),
        ("extra", science(np.dstack([gray, alpha]), photometric="minisblack", extrasamples=[0])),
    ]
    for bits in [2, 4]:
        values = gray >> (8 - bits)
        shown = (values.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
        yield f"gray{bits}", shown, [
            ("raw", made(base(bits, 1, 1), bits_of(values, bits))),
            ("white-is-zero", made(base(bits, 1, 0), bits_of(2**bits - 1 - values, bits))),
            ("fill-order", made(base(bits, 1, 1) + [(266, 3, [2])], reversed_bits(bits_of(values, bits)))),
            ("big-endian", made(base(bits, 1, 1), bits_of(values, bits), ">")),
            ("bigtiff", made(base(bits, 1, 1), bits_of(values, bits), big=True)),
        ]
    yield "bilevel", np.asarray(bilevel.convert("L")), [
        *((name, pillow(bilevel, compression=name)) for name in ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw"]),
        ("group3-2d", pillow(bilevel, compression="group3", tiffinfo={292: 1})),
        ("group3-aligned", pillow(bilevel, compression="group3", tiffinfo={292: 4})),
        ("group3-2d-aligned", pillow(bilevel, compression="group3", tiffinfo={292: 5})),
        ("group4-strips", pillow(bilevel, compression="group4", tiffinfo={278: 7})),
        ("group4-fill-order", pillow(bilevel, compression="group4", tiffinfo={266: 2})),
        ("group4-black-is-zero", pillow(bilevel, compression="group4", tiffinfo={262: 1})),
        ("raw", pillow(bilevel)),
        ("white-is-zero", made(base(1, 1, 0), bits_of((np.asarray(bilevel) == 0).astype(np.uint8), 1))),
        ("fill-order", made(base(1, 1, 1) + [(266, 3, [2])], reversed_bits(bits_of(np.asarray(bilevel).astype(np.uint8), 1)))),
    ]
    wide = Image.effect_noise((1733, 21), 90).point(lambda v: 255 * (v > 128)).convert("1")
    long = np.zeros((21, 6001), np.uint8)
    long[3:9, 100:5900] = long[12:, 3000:] = 255
    long = Image.fromarray(long).convert("1")
    for name, image in [("noise", wide), ("long-runs", long)]:
        yield name, np.asarray(image.convert("L")), [
            *((kind, pillow(image, compression=kind)) for kind in ["group3", "group4", "tiff_ccitt"]),
            ("group3-2d", pillow(image, compression="group3", tiffinfo={292: 1})),
        ]
    yield "palette", np.asarray(palette.convert("RGB")), [
        ("raw", pillow(palette)),
        ("lzw", pillow(palette, compression="tiff_lzw")),
    ]
    indices = np.asarray(small_palette)
    colors = np.zeros((16, 3), np.uint16)
    entries = np.array(small_palette.getpalette()[: 13 * 3]).reshape(-1, 3)
    colors[: len(entries)] = entries
    yield "palette4", np.asarray(small_palette.convert("RGB")), [
        ("raw", made(base(4, 1, 3) + [(320, 3, list((colors * 257).T.ravel()))], bits_of(indices, 4))),
        ("of-bytes", made(base(4, 1, 3) + [(320, 3, list(colors.T.ravel()))], bits_of(indices, 4), ">")),
    ]

    def on_white(color, alpha):
        color, alpha = color.astype(np.uint32), alpha.astype(np.uint32)[..., None]
        return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)

    def multiplied(color, alpha):
        return ((color.astype(np.uint32) * alpha[..., None] + 127) // 255).astype(np.uint8)

    shown = on_white(rgba[..., :3], alpha)
    premultiplied = np.dstack([multiplied(rgba[..., :3], alpha), alpha])
    yield "rgba", shown, [
        ("straight", science(rgba, photometric="rgb", extrasamples=[2], compression="zlib")),
        ("unnamed", made(base(8, 4, 2), rgba.tobytes())),
        ("premultiplied", science(premultiplied, photometric="rgb", extrasamples=[1], compression="lzw")),
        ("premultiplied-16", science(premultiplied.astype(np.uint16) * 257, photometric="rgb", extrasamples=[1])),
        ("straight-16", science(rgba.astype(np.uint16) * 257, photometric="rgb", extrasamples=[2], compression="zlib")),
        ("planar", science(np.moveaxis(rgba, 2, 0), planarconfig="separate", photometric="rgb", extrasamples=[2])),
        ("premultiplied-float", science((premultiplied / 255).astype(np.float32), photometric="rgb", extrasamples=[1])),
        ("two-extras", science(np.dstack([rgba[..., :3], gray, alpha]), photometric="rgb", extrasamples=[0, 2])),
    ]
    shown = on_white(gray[..., None], alpha)[..., 0]
    yield "gray-alpha", shown, [
        ("straight", science(np.dstack([gray, alpha]), photometric="minisblack", extrasamples=[2])),
        ("straight-16", science(np.dstack([gray, alpha]).astype(np.uint16) * 257, photometric="minisblack", extrasamples=[2])),
        ("premultiplied", science(np.dstack([multiplied(gray[..., None], alpha)[..., 0], alpha]), photometric="minisblack", extrasamples=[1])),
    ]
    inks = Image.fromarray(scene(4, 3), "CMYK")
    cmyk = np.asarray(inks)
    yield "cmyk", np.asarray(inks.convert("RGB")), [
        ("raw", pillow(inks)),
        ("lzw", pillow(inks, compression="tiff_lzw", tiffinfo={317: 2})),
        ("16", science(cmyk.astype(np.uint16) * 257, photometric="separated", compression="zlib")),
        ("planar", science(np.moveaxis(cmyk, 2, 0), photometric="separated", planarconfig="separate")),
    ]
    # What loses something: each is its own twin, as Pillow reads it.
    y, b, r = (np.asarray(channel) for channel in photo.convert("YCbCr").split())
    luma = [(529, 5, [299, 1000, 587, 1000, 114, 1000]), (532, 5, [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1])]
    own = {
        "jpeg-rgb": pillow(photo, compression="jpeg", quality=90, tiffinfo={262: 2}),
        "jpeg-gray": pillow(gray_photo, compression="jpeg", quality=90),
        "jpeg-cmyk": pillow(inks, compression="jpeg", quality=90),
        "jpeg-tiles": science(rgb, photometric="ycbcr", subsampling=(2, 2), compression="jpeg", compressionargs={"level": 90}, tile=(32, 32)),
        "jpeg-strips": science(rgb, photometric="ycbcr", subsampling=(2, 2), compression="jpeg", compressionargs={"level": 90}, rowsperstrip=16),
        "jpeg-422": science(rgb, photometric="ycbcr", subsampling=(2, 1), compression="jpeg", compressionargs={"level": 90}),
        "jpeg-444": science(rgb, photometric="ycbcr", subsampling=(1, 1), compression="jpeg", compressionargs={"level": 90}),
        "jpeg-tables": pillow(photo.convert("YCbCr"), compression="jpeg", quality=80, tiffinfo={278: 16}),
        "ycbcr": made(base(8, 3, 6, 8) + luma + [(530, 3, [1, 1])], zlib.compress(np.dstack([y, b, r]).tobytes())),
    }
    for (across, down) in [(2, 2), (2, 1), (4, 1)]:
        data = b""
        wide = -(-WIDTH // across) * across
        high = -(-HEIGHT // down) * down
        bright = np.pad(y, ((0, high - HEIGHT), (0, wide - WIDTH)), "edge")
        for top in range(0, high, down):
            for left in range(0, wide, across):
                block = bright[top : top + down, left : left + across]
                data += block.tobytes() + bytes([b[min(top, HEIGHT - 1), left], r[min(top, HEIGHT - 1), left]])
        own[f"ycbcr-{across}{down}"] = made(base(8, 3, 6, 8) + luma + [(530, 3, [across, down])], zlib.compress(data))
    for name, file in own.items():
        image = Image.open(io.BytesIO(file))
        yield name, np.asarray(image.convert("RGB")), [("tiff", file)]


def main():
    HERE.mkdir(exist_ok=True)
    for old in HERE.iterdir():
        old.unlink()
    for twin, shown, files in pictures():
        Image.fromarray(shown).save(HERE / f"{twin}.png", optimize=True)
        for name, file in files:
            (HERE / f"{name}.{twin}.tif").write_bytes(file)
            try:
                image = Image.open(io.BytesIO(file))
                off = np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(Image.fromarray(shown).convert("RGB"))).max()
                note = f"Pillow is {off} off" if off else ""
            except Exception as error:
                note = f"Pillow: {error}"
            if note:
                print(f"{name}.{twin}: {note[:100]}")
    files = [f.stat().st_size for f in HERE.iterdir()]
    print(f"{len(files)} files, {sum(files)} bytes")


main()
