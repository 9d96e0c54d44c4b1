"""Writes the HEIC and AVIF fixtures and what they should look like: python tests/pixels/make_heif.py

Needs pillow-heif (with an HEVC encoder, as its wheels have), Pillow 13, and imagecodecs for AVIF of more than 8 bits. Each
picture stands beside a PNG of what it
shows, upright, made from the same file by libheif (HEIC) or libavif (AVIF), in the numbers of the file's own profile.
"""

import io
import struct
from pathlib import Path

import imagecodecs
import numpy
import pillow_heif
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent / "heif"
SIZE = (96, 64)


def scene(size=SIZE, alpha=False):
    """Four coloured corners, a slope, and with alpha a fade."""
    width, height = size
    picture = Image.new("RGBA", size)
    for y in range(height):
        for x in range(width):
            corner = ((220, 40, 30), (40, 190, 60), (40, 70, 210), (230, 220, 60))[(2 * y // height) * 2 + 2 * x // width]
            color = tuple((3 * c + 255 * x // width) // 4 for c in corner)
            picture.putpixel((x, y), (*color, 255 * y // height if alpha else 255))
    return picture if alpha else picture.convert("RGB")


def heic(picture, **options):
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=90, **options)
    return file.getvalue()


def box(kind, *parts):
    data = b"".join(parts)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def boxes(data):
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + length]
        at += length


def find(data, kind):
    return next(body for name, body in boxes(data) if name == kind)


def avif(picture, **options):
    file = io.BytesIO()
    picture.save(file, "AVIF", quality=85, **options)
    return file.getvalue()


# How a coded picture is made, its brand, its kind of item, and the box that its decoder needs.
HEIC = heic, b"heic", b"hvc1", b"hvcC"
AVIF = avif, b"avif", b"av01", b"av1C"


def coded(file, config):
    """The decoder's box and the data of a file's only picture."""
    meta = find(file, b"meta")[4:]
    return find(find(find(meta, b"iprp"), b"ipco"), config), find(file, b"mdat")


def grid(picture, tile, transforms=(), how=HEIC, colors=b"", in_meta=False):
    """A picture of tiles, as phones write it: `transforms` are boxes of the whole, `colors` is one of the tiles. The grid's
    layout lies in the boxes (`in_meta`) or with the tiles."""
    encode, brand, kind_of_tile, kind_of_config = how
    width, height = picture.size
    columns, rows = -(-width // tile), -(-height // tile)
    tiles = []
    for row in range(rows):
        for column in range(columns):
            part = Image.new("RGB", (tile, tile))
            part.paste(picture, (-column * tile, -row * tile))
            tiles.append(coded(encode(part), kind_of_config))
    config = tiles[0][0]
    full = lambda kind, version, *parts: box(kind, struct.pack(">I", version << 24), *parts)
    items = [(1, b"grid")] + [(2 + index, kind_of_tile) for index in range(len(tiles))]
    entries = [full(b"infe", 2, struct.pack(">HH4sx", number, 0, kind)) for number, kind in items]
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    properties = [
        box(kind_of_config, config),
        full(b"ispe", 0, struct.pack(">II", tile, tile)),
        full(b"ispe", 0, struct.pack(">II", width, height)),
        *transforms,
    ]
    mine = [3] + [0x84 + index for index in range(len(transforms))]
    associations = [(1, mine)] + [(2 + index, [0x81, 2]) for index in range(len(tiles))]
    if colors:
        properties.append(colors)
        associations = [(1, mine)] + [(2 + index, [0x81, 2, len(properties)]) for index in range(len(tiles))]
    ipma = struct.pack(">I", len(associations))
    for number, indices in associations:
        ipma += struct.pack(">HB", number, len(indices)) + bytes(indices)
    parts = [*([] if in_meta else [layout]), *(data for _, data in tiles)]

    def meta(start):
        at, places = start, struct.pack(">BBH", 0x44, 0, len(items))
        if in_meta:
            places += struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(layout))
        for number, part in enumerate(parts, 1 + in_meta):
            # Of a larger part two pieces.
            pieces = [part[:9], part[9:]] if in_meta else [part]
            places += struct.pack(">H", number) + (b"\0\0" if in_meta else b"") + struct.pack(">HH", 0, len(pieces))
            for piece in pieces:
                places += struct.pack(">II", at, len(piece))
                at += len(piece)
        references = box(b"dimg", struct.pack(">HH", 1, len(tiles)), *(struct.pack(">H", 2 + i) for i in range(len(tiles))))
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, struct.pack(">I4s12xx", 0, b"pict")),
            full(b"pitm", 0, struct.pack(">H", 1)),
            full(b"iloc", int(in_meta), places),
            full(b"iinf", 0, struct.pack(">H", len(entries)), *entries),
            full(b"iref", 0, references),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", 0, ipma)),
            box(b"idat", layout) if in_meta else b"",
        )

    kind = box(b"ftyp", brand, struct.pack(">I", 0), b"mif1" + brand)
    start = len(kind) + len(meta(0)) + 8
    return kind + meta(start) + box(b"mdat", *parts)


def rotated(turns):
    return box(b"irot", bytes([turns]))


def mirrored(axis):
    return box(b"imir", bytes([axis]))


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def p3():
    """A small profile with the primaries of Display P3 and a simple curve."""
    colors = [(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)]
    fixed = lambda *values: b"".join(struct.pack(">i", round(65536 * value)) for value in values)
    curve = b"curv" + struct.pack(">IIHxx", 0, 1, round(256 * 2.2))
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.82491))]
    tags += [(name, b"XYZ \0\0\0\0" + fixed(*color)) for name, color in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colors)]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    at, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += struct.pack(">4sII", name, at + len(data), len(value))
        data += value
    head = struct.pack(">I4sI4s4s4s12s4s", at + len(data), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp")
    return (head + bytes(28) + fixed(0.9642, 1, 0.82491)).ljust(128, b"\0") + table + data


def fixtures():
    plain = scene()
    yield "plain.heic", heic(plain)
    yield "444.heic", heic(plain, chroma=444)
    yield "alpha.heic", heic(scene(alpha=True))
    yield "gray.heic", heic(plain.convert("L"))
    yield "odd.heic", heic(scene((95, 61)))
    deep = pillow_heif.from_bytes("RGB;16", SIZE, b"".join(struct.pack("<H", v * 257) for v in plain.tobytes()))
    file = io.BytesIO()
    deep.save(file, quality=90)
    yield "10bit.heic", file.getvalue()
    for orientation in (3, 6, 8):
        turned = plain.copy()
        turned.getexif()[0x0112] = orientation
        yield f"orientation-{orientation}.heic", heic(turned, exif=exif(orientation))
    yield "grid.heic", grid(scene((200, 100)), 64)
    yield "grid-irot.heic", grid(scene((200, 100)), 64, [rotated(1)])
    yield "grid-imir.heic", grid(scene((200, 100)), 64, [mirrored(1)])
    yield "grid-both.heic", grid(scene((200, 100)), 64, [rotated(3), mirrored(0)])
    yield "p3.heic", heic(plain, icc_profile=p3())
    yield "grid-p3.heic", grid(scene((200, 100)), 64, colors=box(b"colr", b"prof", p3()))
    for name, options in [
        ("plain", {}),
        ("444", {"subsampling": "4:4:4"}),
        ("422", {"subsampling": "4:2:2"}),
        ("gray", {"subsampling": "4:0:0"}),
        ("limited", {"range": "limited"}),
        ("odd", {"size": (95, 61)}),
    ]:
        yield f"{name}.avif", avif(scene(options.pop("size", SIZE)), **options)
    yield "alpha.avif", avif(scene(alpha=True))
    yield "multiplied.avif", avif(scene(alpha=True), alpha_premultiplied=True)
    yield "p3.avif", avif(plain, icc_profile=p3())
    for orientation in (3, 5, 6, 7, 8):
        yield f"orientation-{orientation}.avif", avif(plain, exif=exif(orientation))
    for bits, subsampling in [(10, "420"), (12, "444")]:
        yield f"{bits}bit.avif", deep_avif(bits, subsampling)
    yield "mif1.avif", avif(plain).replace(b"ftypavif", b"ftypmif1", 1)
    wide = scene((200, 100))
    for name, transforms in [
        ("grid", []),
        ("grid-irot", [rotated(1)]),
        ("grid-imir", [mirrored(1)]),
        ("grid-both", [rotated(3), mirrored(0)]),
    ]:
        yield f"{name}.avif", grid(wide, 64, transforms, AVIF)
    # The layout in `idat`, the tiles in two pieces each, and their colours told beside them.
    yield "grid-pieces.avif", grid(wide, 64, [], AVIF, box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, 6, 0x80)), True)


def deep_avif(bits, subsampling):
    """An AVIF of more than 8 bits."""
    pixels = numpy.asarray(scene()).astype(numpy.uint16)
    pixels = (pixels << bits - 8) | (pixels >> 16 - bits)
    return imagecodecs.avif_encode(pixels, level=85, bitspersample=bits, pixelformat=subsampling)


def shown(name, file):
    if name.endswith(".avif"):
        # Turned by what its boxes say, which Pillow makes EXIF of.
        return ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    return pillow_heif.open_heif(io.BytesIO(file), convert_hdr_to_8bit=True).to_pillow()


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, file in fixtures():
        (FOLDER / name).write_bytes(file)
        picture = shown(name, file)
        picture = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
        picture.save(FOLDER / f"{name}.png", exif=b"", icc_profile=picture.info.get("icc_profile"))
        print(name, len(file), picture.size, picture.mode)


if __name__ == "__main__":
    main()
