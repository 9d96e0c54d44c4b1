"""Writes the HEIC and AVIF fixtures and what they should look like: python tests/pixels/make_heif.py

Needs pillow-heif (with an HEVC encoder, as its wheels have) and Pillow 13. Each picture stands beside a PNG of what it
shows, upright, made from the same file by libheif (HEIC) or libavif (AVIF).
"""

import io
import struct
from pathlib import Path

import pillow_heif
from PIL import Image

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


def coded(file):
    """hvcC and the data of a file's only picture."""
    meta = find(file, b"meta")[4:]
    config = find(find(find(meta, b"iprp"), b"ipco"), b"hvcC")
    data = find(file, b"mdat")
    return config, data


def grid(picture, tile, transforms=()):
    """A picture of tiles, as phones write it: `transforms` are boxes of the whole."""
    width, height = picture.size
    columns, rows = -(-width // tile), -(-height // tile)
    tiles = []
    for row in range(rows):
        for column in range(columns):
            part = Image.new("RGB", (tile, tile))
            part.paste(picture, (-column * tile, -row * tile))
            tiles.append(coded(heic(part)))
    config = tiles[0][0]
    full = lambda kind, version, *parts: box(kind, struct.pack(">I", version << 24), *parts)
    items = [(1, b"grid")] + [(2 + index, b"hvc1") for index in range(len(tiles))]
    entries = [full(b"infe", 2, struct.pack(">HH4sx", number, 0, kind)) for number, kind in items]
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    properties = [
        box(b"hvcC", config),
        full(b"ispe", 0, struct.pack(">II", tile, tile)),
        full(b"ispe", 0, struct.pack(">II", width, height)),
        *transforms,
    ]
    mine = [3] + [0x84 + index for index in range(len(transforms))]
    associations = [(1, mine)] + [(2 + index, [0x81, 2]) for index in range(len(tiles))]
    ipma = struct.pack(">I", len(associations))
    for number, indices in associations:
        ipma += struct.pack(">HB", number, len(indices)) + bytes(indices)
    parts = [layout, *(data for _, data in tiles)]

    def meta(start):
        at, places = start, struct.pack(">BBH", 0x44, 0, len(parts))
        for number, part in enumerate(parts, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(part))
            at += len(part)
        references = box(b"dimg", struct.pack(">HH", 1, len(tiles)), *(struct.pack(">H", 2 + i) for i in range(len(tiles))))
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, struct.pack(">I4s12xx", 0, b"pict")),
            full(b"pitm", 0, struct.pack(">H", 1)),
            full(b"iloc", 0, places),
            full(b"iinf", 0, struct.pack(">H", len(entries)), *entries),
            full(b"iref", 0, references),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", 0, ipma)),
        )

    kind = box(b"ftyp", b"heic", struct.pack(">I", 0), b"mif1heic")
    start = len(kind) + len(meta(0)) + 8
    return kind + meta(start) + box(b"mdat", *parts)


def rotated(turns):
    return box(b"irot", bytes([turns]))


def mirrored(axis):
    return box(b"imir", bytes([axis]))


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
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = plain.copy()
        turned.getexif()[0x0112] = orientation
        yield f"orientation-{orientation}.heic", heic(turned, exif=exif.tobytes())
    yield "grid.heic", grid(scene((200, 100)), 64)
    yield "grid-irot.heic", grid(scene((200, 100)), 64, [rotated(1)])
    yield "grid-imir.heic", grid(scene((200, 100)), 64, [mirrored(1)])
    yield "grid-both.heic", grid(scene((200, 100)), 64, [rotated(3), mirrored(0)])
    for name, options in [("plain", {}), ("444", {"subsampling": "4:4:4"}), ("odd", {"size": (95, 61)})]:
        size = options.pop("size", SIZE)
        file = io.BytesIO()
        scene(size).save(file, "AVIF", quality=85, **options)
        yield f"{name}.avif", file.getvalue()
    file = io.BytesIO()
    scene(alpha=True).save(file, "AVIF", quality=85)
    yield "alpha.avif", file.getvalue()


def shown(name, file):
    if name.endswith(".avif"):
        return Image.open(io.BytesIO(file))
    return pillow_heif.open_heif(io.BytesIO(file), convert_hdr_to_8bit=True).to_pillow()


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, file in fixtures():
        (FOLDER / name).write_bytes(file)
        picture = shown(name, file)
        picture = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
        picture.save(FOLDER / f"{name}.png", exif=b"")
        print(name, len(file), picture.size, picture.mode)


if __name__ == "__main__":
    main()
