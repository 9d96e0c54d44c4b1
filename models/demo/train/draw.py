"""Draws sprites, geometric shapes and printed texts on an RGB canvas (uint8 [H, W, 3]), region by region."""

import colorsys
import json
import math
import random
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from things import COLOURS

ASSETS = Path(__file__).resolve().parent / "assets"
FONT_SIZES = (22, 34, 52, 80, 124, 200, 320)
STAR = [(math.sin(k * math.pi / 5) * (1 if k % 2 == 0 else 0.42), -math.cos(k * math.pi / 5) * (1 if k % 2 == 0 else 0.42)) for k in range(10)]


def _regular(n: int) -> list[tuple[float, float]]:
    return [(math.sin(2 * math.pi * k / n), -math.cos(2 * math.pi * k / n)) for k in range(n)]


def _heart() -> list[tuple[float, float]]:
    points = []
    for k in range(40):
        t = 2 * math.pi * k / 40
        points.append((math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16))
    return points


# Outlines within [-1, 1]²; rectangle and oval are stretched by the caller.
OUTLINES = {
    "circle": _regular(48), "oval": _regular(48), "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)], "rectangle": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -0.95), (1, 0.85), (-1, 0.85)], "star": STAR, "heart": _heart(), "diamond": [(0, -1), (0.8, 0), (0, 1), (-0.8, 0)],
    "pentagon": _regular(5), "hexagon": [(math.cos(math.pi * k / 3), math.sin(math.pi * k / 3)) for k in range(6)],
    "cross": [(-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33), (0.33, 1), (-0.33, 1), (-0.33, 0.33), (-1, 0.33), (-1, -0.33), (-0.33, -0.33)],
    "arrow": [(-1, -0.28), (0.15, -0.28), (0.15, -0.75), (1, 0), (0.15, 0.75), (0.15, 0.28), (-1, 0.28)],
}


def sample_colour(name: str, rng: random.Random) -> tuple[int, int, int]:
    """An RGB triple that everyone calls by this name."""
    c = COLOURS[name]
    rgb = colorsys.hsv_to_rgb(rng.uniform(*c.hue) % 360 / 360, rng.uniform(*c.sat) / 100, rng.uniform(*c.val) / 100)
    return tuple(round(255 * v) for v in rgb)


def distance(a, b) -> float:
    """A rough perceptual distance of two RGB colours (0 to about 760)."""
    r = (float(a[0]) + float(b[0])) / 2
    d = [float(x) - float(y) for x, y in zip(a, b)]
    return math.sqrt((2 + r / 256) * d[0] ** 2 + 4 * d[1] ** 2 + (2 + (255 - r) / 256) * d[2] ** 2)


def luminance(c) -> float:
    return 0.299 * float(c[0]) + 0.587 * float(c[1]) + 0.114 * float(c[2])


def squashed_size(image: np.ndarray, size: int, quick: bool = False) -> np.ndarray:
    """The model's transform up to the 8-bit picture: Pillow's bicubic to size × size; `quick`: something close."""
    if image.shape[:2] == (size, size):
        return image
    if quick:
        h, w = image.shape[:2]
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR if max(h, w) < 1.4 * size else cv2.INTER_AREA)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def _blend(region: np.ndarray, premultiplied: np.ndarray, alpha: np.ndarray) -> None:
    cv2.multiply(region, cv2.cvtColor(255 - alpha, cv2.COLOR_GRAY2RGB), dst=region, scale=1 / 255)
    cv2.add(region, premultiplied, dst=region)


def _paint(region: np.ndarray, alpha: np.ndarray, colour) -> None:
    solid = cv2.multiply(cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), tuple(float(v) for v in colour) + (0.0,), scale=1 / 255)
    _blend(region, solid, alpha)


class Sprite:
    """One emoji picture in three resolutions, colours multiplied by their opacity."""

    def __init__(self, path: Path):
        rgba = np.asarray(Image.open(path).convert("RGBA")).copy()
        rgba[..., :3] = (rgba[..., :3].astype(np.uint16) * rgba[..., 3:] // 255).astype(np.uint8)
        self.h, self.w = rgba.shape[:2]
        self.levels = [rgba]
        for f in (0.5, 0.25):
            self.levels.append(cv2.resize(rgba, (max(1, round(self.w * f)), max(1, round(self.h * f))), interpolation=cv2.INTER_AREA))
        tiny = cv2.resize(rgba, (12, 12), interpolation=cv2.INTER_AREA).reshape(-1, 4).astype(np.float32)
        tiny = tiny[tiny[:, 3] > 180]
        self.colours = (tiny[:, :3] * 255 / tiny[:, 3:])[::4].tolist()


@lru_cache(None)
def sprites() -> dict[str, list[Sprite]]:
    listing = json.loads((ASSETS / "sprites" / "sprites.json").read_text())
    return {key: [Sprite(ASSETS / "sprites" / name) for name in names] for key, names in listing.items()}


@lru_cache(None)
def fonts(split: str, script: str) -> list[tuple[str, frozenset[str]]]:
    """(path, the characters it lacks) of every font of the split for "latin" or "chinese"."""
    listing = json.loads((ASSETS / "fonts" / "fonts.json").read_text(encoding="utf-8"))[split][script]
    return [(str(ASSETS / "fonts" / split / name), frozenset(missing)) for name, missing in sorted(listing.items())]


@lru_cache(1500)
def font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _region(canvas: np.ndarray, cx: float, cy: float, rx: float, ry: float):
    h, w = canvas.shape[:2]
    x0, y0 = max(0, math.floor(cx - rx) - 1), max(0, math.floor(cy - ry) - 1)
    x1, y1 = min(w, math.ceil(cx + rx) + 2), min(h, math.ceil(cy + ry) + 2)
    return x0, y0, x1, y1


def mean_colour(canvas: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> tuple[tuple[float, ...], float]:
    """Mean colour and the spread of brightness under a box."""
    x0, y0, x1, y1 = _region(canvas, cx, cy, rx, ry)
    small = cv2.resize(canvas[y0:y1, x0:x1], (16, 16), interpolation=cv2.INTER_LINEAR)
    return cv2.mean(small)[:3], float(cv2.meanStdDev(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))[1][0, 0])


def turned_box(w: float, h: float, angle: float) -> tuple[float, float]:
    c, s = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return w * c + h * s, w * s + h * c


def draw_sprite(canvas, sprite: Sprite, cx, cy, size, angle, flip, rng: random.Random, jitter: float) -> None:
    """Draws the sprite with its longer side `size` pixels long, turned by `angle` degrees about (cx, cy)."""
    scale = size / max(sprite.w, sprite.h)
    level = sprite.levels[0 if scale > 0.5 else 1 if scale > 0.25 else 2]
    lh, lw = level.shape[:2]
    k = size / max(lw, lh)
    bw, bh = turned_box(lw * k, lh * k, angle)
    pad = 3 + size * 0.05
    x0, y0, x1, y1 = _region(canvas, cx, cy, bw / 2 + pad, bh / 2 + pad)
    c, s = math.cos(math.radians(angle)) * k, math.sin(math.radians(angle)) * k
    fx = -1 if flip else 1
    matrix = np.array([[c * fx, -s, 0], [s * fx, c, 0]], np.float32)
    matrix[:, 2] = np.array([cx - x0, cy - y0]) - matrix[:, :2] @ np.array([(lw - 1) / 2, (lh - 1) / 2])
    warped = cv2.warpAffine(level, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    alpha, rgb = np.ascontiguousarray(warped[..., 3]), np.ascontiguousarray(warped[..., :3])
    region = canvas[y0:y1, x0:x1]
    under, _ = mean_colour(canvas, cx, cy, bw / 2, bh / 2)
    hidden = sum(distance(colour, under) < 75 for colour in sprite.colours)
    if 2 * hidden > len(sprite.colours) or rng.random() < 0.05:  # an outline, as stickers have, where the thing would hardly show
        reach = max(1, round(size * 0.025))
        ring = cv2.dilate(alpha, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        _paint(region, ring, (30, 30, 35) if luminance(under) > 120 else (245, 245, 245))
    if jitter:
        gains = [1 + rng.uniform(-jitter, jitter) for _ in range(3)]
        rgb = cv2.min(cv2.transform(rgb, np.diag(gains).astype(np.float32)), cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB))
    _blend(region, rgb, alpha)


def draw_shape(canvas, key: str, rgb, cx, cy, rx, ry, angle, line: float, border, rng: random.Random) -> None:
    """Draws a filled shape, or its outline `line` pixels wide; `border` is a thin rim's colour or None."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    points = np.array([(cx + x * rx * c - y * ry * s, cy + x * rx * s + y * ry * c) for x, y in OUTLINES[key]])
    fixed = np.round(points * 16).astype(np.int32)
    rgb = tuple(int(v) for v in rgb)
    if line:
        cv2.polylines(canvas, [fixed], True, rgb, max(2, round(line)), cv2.LINE_AA, 4)
        return
    cv2.fillPoly(canvas, [fixed], rgb, cv2.LINE_AA, 4)
    if border is not None:
        cv2.polylines(canvas, [fixed], True, tuple(int(v) for v in border), max(1, round((rx + ry) * 0.03)), cv2.LINE_AA, 4)


def text_mask(lines: list[str], path: str, height: float, spacing: float) -> np.ndarray:
    """Opacity of the printed lines in a font whose em is about `height` pixels (a size of FONT_SIZES at or above)."""
    size = next((s for s in FONT_SIZES if s >= height), FONT_SIZES[-1])
    face = font(path, size)
    masks = []
    for text in lines:
        if spacing and len(text) > 1:
            masks.append(_printed(text, face, round(spacing * size)))
        else:
            masks.append(_printed(text, face))
    if len(masks) == 1:
        return masks[0]
    gap = round(size * 0.35)
    width = max(m.shape[1] for m in masks)
    out = np.zeros((sum(m.shape[0] for m in masks) + gap * (len(masks) - 1), width), np.uint8)
    y = 0
    for m in masks:
        x = (width - m.shape[1]) // 2
        out[y : y + m.shape[0], x : x + m.shape[1]] = m
        y += m.shape[0] + gap
    return out


def _printed(text: str, face, extra: int = 0) -> np.ndarray:
    """Opacity of one line, cut to its ink, with `extra` pixels between the characters."""
    ascent, descent = face.getmetrics()
    width = math.ceil(face.getlength(text)) + extra * (len(text) - 1)
    picture = Image.new("L", (width + ascent, ascent + descent + ascent))
    pen, x = ImageDraw.Draw(picture), ascent / 2
    for part in text if extra else (text,):
        pen.text((x, ascent // 2), part, fill=255, font=face)
        x += face.getlength(part) + extra
    return np.asarray(picture.crop(picture.getbbox() or (0, 0, 1, 1)))


def draw_text(canvas, mask: np.ndarray, cx, cy, w, h, angle, shear, rgb, panel, outline, shadow) -> None:
    """Prints the mask stretched to w × h pixels about (cx, cy); panel, outline and shadow are colours or None."""
    mh, mw = mask.shape
    while mw > 2.2 * w and mh > 2.2 * h:
        mask = cv2.resize(mask, (mw // 2, mh // 2), interpolation=cv2.INTER_AREA)
        mh, mw = mask.shape
    kx, ky = w / mw, h / mh
    bw, bh = turned_box(w + abs(shear) * h, h, angle)
    pad = 4 + 0.3 * h
    x0, y0, x1, y1 = _region(canvas, cx, cy, bw / 2 + pad, bh / 2 + pad)
    region = canvas[y0:y1, x0:x1]
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = np.array([[c, -s], [s, c]]) @ np.array([[kx, -shear * ky], [0, ky]])
    offset = np.array([cx - x0, cy - y0]) - turn @ np.array([(mw - 1) / 2, (mh - 1) / 2])
    matrix = np.concatenate([turn, offset[:, None]], 1).astype(np.float32)
    if panel is not None:
        grow = 0.22 * h
        corners = np.array([(-w / 2 - grow, -h / 2 - grow), (w / 2 + grow, -h / 2 - grow), (w / 2 + grow, h / 2 + grow), (-w / 2 - grow, h / 2 + grow)])
        corners = corners @ np.array([[c, s], [-s, c]]) + (cx, cy)
        cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], tuple(int(v) for v in panel), cv2.LINE_AA, 4)
    alpha = cv2.warpAffine(mask, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    if outline is not None:
        reach = max(1, round(h * 0.04))
        _paint(region, cv2.dilate(alpha, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)), outline)
    if shadow is not None:
        shift = max(1, round(h * 0.05))
        moved = np.zeros_like(alpha)
        moved[shift:, shift:] = alpha[:-shift, :-shift]
        _paint(region, moved // 2, shadow)
    _paint(region, alpha, rgb)
