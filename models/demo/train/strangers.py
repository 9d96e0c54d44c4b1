"""Pictures that are none of the drawn scenes, out of assets/strangers: photographs, and others (screenshots, documents,
charts, comics, clip-art). What is asked about one gets one sentence (wordings.STRANGERS)."""

import json
import math
import random
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(__file__).resolve().parent / "assets" / "strangers"
# Kinds of original by what is said of them, and how often each is drawn.
SORTS = {
    "photo": {"photo": 0.65, "cutout": 0.35},
    "stranger": {"screenshot": 0.32, "document": 0.2, "clipart": 0.24, "chart": 0.12, "comic": 0.12},
}
PHOTOS = 0.62  # photographs among the strangers


@lru_cache(None)
def manifest() -> list[dict]:
    file = FOLDER / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else []


@lru_cache(None)
def names(split: str, sort: str, kind: str = "") -> list[str]:
    """The originals of a split that are photographs, or others; or those of one kind."""
    return sorted(m["name"] for m in manifest() if m["split"] == split and m["kind"] in SORTS[sort] and kind in ("", m["kind"]))


def kind_of(name: str) -> str:
    return name.split("/")[1].split("-")[0]


def _load(name: str) -> np.ndarray:
    """RGB, or RGBA where the original is cut out."""
    picture = cv2.imdecode(np.fromfile(FOLDER / name, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB if picture.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _cropped(rng: random.Random, picture: np.ndarray, w: int, h: int, least: float) -> np.ndarray:
    """A part of the picture of the shape w × h, at least that part of what fits, stretched to it; one with something in it."""
    ph, pw = picture.shape[:2]
    for _ in range(4):
        part = min(pw / w, ph / h) * rng.uniform(least, 1)
        cw, ch = max(8, min(pw, int(w * part))), max(8, min(ph, int(h * part)))
        x, y = rng.randint(0, pw - cw), rng.randint(0, ph - ch)
        cut = picture[y:y + ch, x:x + cw]
        if cv2.resize(cut, (24, 24), interpolation=cv2.INTER_AREA).std(axis=(0, 1)).max() > 22:  # bare sky may as well be drawn
            break
    return cv2.resize(cut, (w, h), interpolation=cv2.INTER_AREA if part > 1.3 else cv2.INTER_LINEAR)


def _laid(rng: random.Random, ground: np.ndarray, piece: np.ndarray, reach: float, turn: float) -> None:
    """Lays a cut-out on the ground, the whole of it in the picture or nearly so."""
    h, w = ground.shape[:2]
    ph, pw = piece.shape[:2]
    k, angle = reach * min(w / pw, h / ph), math.radians(turn)
    x, y = (side / 2 + rng.uniform(-1, 1) * max(0.0, side - size * k) / 2 for side, size in ((w, pw), (h, ph)))
    c, s = k * math.cos(angle), k * math.sin(angle)
    matrix = np.array([[c, -s, x - c * pw / 2 + s * ph / 2], [s, c, y - s * pw / 2 - c * ph / 2]], np.float32)
    if k < 0.6:  # or thin lines break up
        half = cv2.resize(piece, (max(1, pw // 2), max(1, ph // 2)), interpolation=cv2.INTER_AREA)
        matrix[:, :2] *= 2
        piece = half
    warped = cv2.warpAffine(piece, matrix, (w, h), flags=cv2.INTER_LINEAR)
    alpha = cv2.cvtColor(warped[..., 3], cv2.COLOR_GRAY2RGB)
    cv2.multiply(ground, 255 - alpha, dst=ground, scale=1 / 255)
    cv2.add(ground, cv2.multiply(warped[..., :3], alpha, scale=1 / 255), dst=ground)


class Strangers:
    """Draws strangers of one split. `backgrounds` are those of the drawn scenes: cut-outs lie on them, too."""

    def __init__(self, split: str, backgrounds):
        self.split, self.backgrounds = split, backgrounds

    def choose(self, rng: random.Random) -> str:
        sort = "photo" if rng.random() < PHOTOS else "stranger"
        kind = rng.choices(list(SORTS[sort]), list(SORTS[sort].values()))[0]
        return rng.choice(names(self.split, sort, kind))

    @staticmethod
    def sort(name: str) -> str:
        return next(sort for sort, kinds in SORTS.items() if kind_of(name) in kinds)

    def draw(self, rng: random.Random, name: str, w: int, h: int, whole: bool) -> np.ndarray:
        """The original `name` as a picture of about w × h pixels: all of it in its own shape, or a part in this one."""
        picture, kind = _load(name), kind_of(name)
        if picture.ndim == 3 and picture.shape[2] == 4:
            return self._on_ground(rng, picture, kind, w, h)
        whole = whole or kind in ("cutout", "clipart")  # one of which nothing is transparent
        if rng.random() < 0.5 and kind == "photo":
            picture = cv2.flip(picture, 1)
        if whole:
            ph, pw = picture.shape[:2]
            side, aspect = math.sqrt(w * h), min(2.0, max(0.5, pw / ph))
            w, h = round(side * math.sqrt(aspect)), round(side / math.sqrt(aspect))
            picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA if pw > 1.3 * w else cv2.INTER_LINEAR)
        else:
            picture = _cropped(rng, picture, w, h, 0.3 if kind == "photo" else 0.6)
        if self.split == "train" and kind == "photo":
            if rng.random() < 0.05:
                picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            elif rng.random() < 0.4:  # colours of other days and cameras
                picture = cv2.transform(picture, np.diag([rng.uniform(0.8, 1.2) for _ in range(3)]).astype(np.float32))
        return np.ascontiguousarray(picture)

    def _on_ground(self, rng: random.Random, piece: np.ndarray, kind: str, w: int, h: int) -> np.ndarray:
        if kind == "clipart":
            ground = np.full((h, w, 3), 255, np.uint8) if rng.random() < 0.5 else self.backgrounds.draw(rng, w, h)
        elif rng.random() < 0.7:
            ground = _cropped(rng, _load(rng.choice(names(self.split, "photo", "photo"))), w, h, 0.3)
        else:
            ground = self.backgrounds.draw(rng, w, h)
        ground = np.ascontiguousarray(ground)
        if rng.random() < 0.5 and kind == "cutout":  # clip-art has writing
            piece = cv2.flip(piece, 1)
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3)) if kind == "cutout" else 1):
            _laid(rng, ground, piece, rng.uniform(0.45, 1), rng.uniform(-12, 12))
        return ground
