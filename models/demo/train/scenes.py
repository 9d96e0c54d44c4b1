"""Generated scenes with their conversations, for training and for the held-out evaluation.

    gen = Generator(seed, split)     # split "train" or "heldout" ("test" is the same); one per worker process (a seed of its own each)
    scene = gen.scene()              # -> Scene
    scene.image                      # uint8 [S, S, 3] RGB, S = 384, squashed as the model's transform does
    scene.conversations              # Conversations (lists) of Turn(question, answer, kind, lang);
                                     #   conversation.picture is False where no picture is given at all
    scene.kind                       # read_latin, read_chinese, count, place, things, shapes, empty;
                                     #   hard ones: name, count_hard, read_hard

    gen.scene(focus=("count", "zh")) # a scene that surely has one single-turn conversation: that kind, that language.
                                     #   kinds: describe count colour position yesno read_latin read_chinese
                                     #   relation what_shape unknowable chat read_none follow_count
                                     #   (follow_count: two turns, of which the second is the one to judge)
                                     #   photo, stranger: a picture of strangers.py, of which anything is asked;
                                     #   original="NAME" tells which, whole=True takes all of it and leaves it unworn
    gen.scene(full=True).full        # encoded JPEG/PNG bytes of 640 to 2400 pixels; scene.media tells which;
                                     #   scene.image is the squashed picture of just these bytes
    gen.scene(full=4000).full        # the same with a longer side of 4000 pixels

    python scenes.py samples OUT.png [split] [count] [seed]     # a contact sheet with the questions
    python scenes.py large FOLDER [count] [seed]                # held-out pictures of about 12 megapixels, with questions.json
    python scenes.py speed                                      # scenes a second on one core

Deterministic from (seed, split). Everything is drawn from assets/ (see assets.py).
"""

import io
import json
import math
import random
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

import draw
from backgrounds import Backgrounds
from strangers import SORTS, Strangers, names
from talk import Conversation, Facts, Item, Talker, Turn, cell, estranged, without_picture
from texts import Texts
from things import COLOURS, SHAPES, THINGS

SIZE = 384
SHARES = {"read_latin": 0.21, "read_chinese": 0.21, "count": 0.19, "place": 0.19, "things": 0.09, "shapes": 0.10, "empty": 0.01}
# What is got wrong longest: one thing or several of it to name, many things, long texts. A generator's `hard` is their share.
HARD_SHARES = {"name": 0.35, "count_hard": 0.35, "read_hard": 0.30}
COMMON_ASPECTS = (1, 1, 1, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 9 / 16)
# What is asked about each sort of scene, and how often.
WEIGHTS = {
    "read": {"read": 9, "describe": 1.2, "yesno": 1, "count": 0.7, "position": 0.7, "colour": 0.7, "unknowable": 0.4, "chat": 0.3},
    "count": {"count": 7, "total": 1, "describe": 2.2, "yesno": 1.5, "position": 0.4, "colour": 0.6, "relation_yes": 0.2, "read": 0.2, "unknowable": 0.3, "chat": 0.2},
    "place": {"position": 7, "relation": 1.6, "relation_yes": 1.2, "describe": 1.8, "yesno": 0.8, "colour": 1, "count": 0.7, "read": 0.2, "unknowable": 0.3, "chat": 0.2},
    "things": {"describe": 3, "yesno": 2.5, "count": 1.5, "position": 2, "relation": 0.7, "relation_yes": 0.5, "colour": 0.8, "total": 0.4, "read": 0.5, "unknowable": 0.8, "chat": 0.5},
    "shapes": {"colour": 3.5, "describe": 2, "what_shape": 1.6, "yesno": 2, "count": 1.5, "position": 1.5, "relation": 0.5, "relation_yes": 0.4, "total": 0.4, "read": 0.3, "unknowable": 0.5, "chat": 0.3},
    "name": {"describe": 6, "count": 2, "yesno": 1.5, "colour": 1, "position": 0.4, "total": 0.3, "read": 0.2, "unknowable": 0.2, "chat": 0.2},
    "count_hard": {"count": 7, "describe": 4, "total": 1, "yesno": 1, "position": 0.3, "colour": 0.5, "unknowable": 0.2, "chat": 0.2},
    "empty": {"describe": 2, "read": 2, "yesno": 2, "count": 2, "unknowable": 1, "chat": 1},
}
FOCUS = {  # the sorts of scene that an evaluated kind is asked about
    "describe": ("things", "things", "shapes", "count"), "count": ("count",), "colour": ("shapes",), "position": ("place",), "yesno": ("things", "shapes", "count"),
    "read_latin": ("read_latin",), "read_chinese": ("read_chinese",), "relation": ("place",), "what_shape": ("shapes",), "unknowable": ("things", "shapes", "read_latin"),
    "chat": ("things", "shapes", "read_latin"), "read_none": ("things", "shapes"), "follow_count": ("count",),
}
QUICK = 0.7  # the part of training pictures squashed by a cheaper filter
JITTER = {"train": (25, 0.06), "heldout": (20, 0.09)}  # usual rotation in degrees, colour gain


@dataclass
class Scene:
    image: np.ndarray
    conversations: list[Conversation]
    kind: str
    full: bytes | None = None
    media: str = ""
    facts: Facts | None = None


class Generator:
    def __init__(self, seed: int | str, split: str, size: int = SIZE, hard: float = 0.0, strangers: float = 0.0, phone: float = 0.0):
        split = "heldout" if split == "test" else split
        self.rng = random.Random(f"{split}/{seed}")
        self.split, self.size = split, size
        self.shares = {k: s * (1 - hard) for k, s in SHARES.items()} | {k: s * hard for k, s in HARD_SHARES.items()}
        self.backgrounds = Backgrounds(split)
        # The share of strangers, and of pictures (drawn ones as well) that look taken by a phone.
        self.strangers, self.phone, self.others = strangers, phone, Strangers(split, self.backgrounds)
        self.texts = Texts(split)
        self.sprites = draw.sprites()
        cv2.setNumThreads(1)

    # ------------------------------------------------------------ scenes
    def scene(self, full: bool | int = False, focus: tuple[str, str] | None = None, original: str = "", whole: bool = False) -> Scene:
        rng = self.rng
        if focus and focus[0] in SORTS:
            return self._stranger(full, original or rng.choice(names(self.split, focus[0])), focus[1], whole)
        if not focus and self.strangers and rng.random() < self.strangers:
            return self._stranger(full, self.others.choose(rng), "", rng.random() < 0.35)
        while True:
            kind = rng.choice(FOCUS[focus[0]]) if focus else rng.choices(list(self.shares), list(self.shares.values()))[0]
            w, h = self._canvas_size(full)
            canvas = self.backgrounds.draw(rng, w, h)
            facts = getattr(self, "_draw_" + kind)(canvas)
            if facts is None:
                continue
            conversations = self._focused(facts, *focus) if focus else self._talk(facts, kind)
            if conversations:
                break
        canvas, quality = self.backgrounds.wear(rng, canvas, bool(facts.texts), self.phone)
        return self._finished(Scene(canvas, conversations, kind, facts=facts), canvas, quality, full)

    def _stranger(self, full: bool | int, original: str, lang: str, whole: bool) -> Scene:
        """A picture that is no drawn scene, with conversations as about one; with `lang` a single question in it."""
        rng = self.rng
        kind = rng.choices(list(self.shares), list(self.shares.values()))[0]
        canvas = self.others.draw(rng, original, *self._canvas_size(full), whole)
        while True:
            facts = self._imagined(kind)
            facts.stranger = self.others.sort(original)
            conversations = self._asked(facts, kind, lang) if lang else self._talk(facts, kind)
            if conversations:
                break
        quality = 0
        if not (lang and whole):
            canvas, quality = self.backgrounds.wear(rng, canvas, bool(facts.texts), self.phone)
        return self._finished(Scene(canvas, conversations, kind, facts=facts), canvas, quality, full)

    def _imagined(self, kind: str) -> Facts:
        """Facts that only make up questions of that sort of scene: nothing of them is drawn."""
        rng, texts, script = self.rng, [], ""
        if kind.startswith("read"):
            script = "chinese" if kind == "read_chinese" else "latin"
            texts = self.texts.lines(rng, script, kind == "read_hard")
        items = []
        for _ in range(rng.choice((0, 0, 1, 2)) if texts else rng.choice((1, 1, 2, 3, 4, 5))):
            key, colour = self._shape_kind() if rng.random() < 0.35 or kind == "shapes" else self._thing_kind()
            items.append(Item(key, colour, rng.random(), rng.random(), 0.1, 0.1))
        return Facts(items, texts, script, Item("text", rng.choice((None, *COLOURS)), rng.random(), rng.random(), 0.3, 0.1) if texts else None)

    def _asked(self, facts: Facts, kind: str, lang: str) -> list[Conversation]:
        """One conversation of one turn or two about a stranger, the last in that language and about the picture."""
        rng, talker = self.rng, Talker(facts, self.rng)
        weights = WEIGHTS["read" if kind.startswith("read") else kind] | {"chat": 0}
        out, before = Conversation(), None
        for at in (rng.choice(("en", "zh")), lang) if rng.random() < 0.25 else (lang,):
            what = rng.choices(list(weights), list(weights.values()))[0]
            made = talker.turn(what, at, before)
            if made is None:
                return []
            out.append(made[0])
            before = (what, made[1])
        return [estranged(out, facts.stranger)]

    def _finished(self, scene: Scene, canvas: np.ndarray, quality: int, full: bool | int) -> Scene:
        """The scene with its picture encoded and squashed."""
        rng = self.rng
        if full:
            self._encode(scene, canvas, quality)
        elif quality:
            params = [cv2.IMWRITE_JPEG_QUALITY, quality]
            canvas = cv2.imdecode(cv2.imencode(".jpg", canvas, params)[1], cv2.IMREAD_COLOR)  # channels stay in order: RGB in, RGB out
        quick = self.split == "train" and rng.random() < QUICK  # Pillow's bicubic takes half of the time of a scene
        scene.image = draw.squashed_size(scene.image if full else canvas, self.size, quick)
        return scene

    @staticmethod
    def _encode(scene: Scene, canvas: np.ndarray, quality: int) -> None:
        buffer = io.BytesIO()
        if quality:
            Image.fromarray(canvas).save(buffer, "JPEG", quality=quality)
        else:
            Image.fromarray(canvas).save(buffer, "PNG", compress_level=1)
        scene.full, scene.media = buffer.getvalue(), "image/jpeg" if quality else "image/png"
        scene.image = np.asarray(Image.open(io.BytesIO(scene.full)).convert("RGB"))

    def _canvas_size(self, full: bool | int) -> tuple[int, int]:
        rng = self.rng
        if not full and rng.random() < 0.2:
            return self.size, self.size
        aspect = rng.choice(COMMON_ASPECTS) if rng.random() < 0.6 else math.exp(rng.uniform(math.log(9 / 16), math.log(16 / 9)))
        if full:
            long = math.exp(rng.uniform(math.log(640), math.log(2400))) if full is True else full
            w, h = (long, long / aspect) if aspect >= 1 else (long * aspect, long)
        else:
            side = 384 if rng.random() < 0.35 else rng.choice((400, 430, 470, 520, 600))
            w, h = side * math.sqrt(aspect), side / math.sqrt(aspect)
        return round(w), round(h)

    def _focused(self, facts: Facts, kind: str, lang: str) -> list[Conversation]:
        talker = Talker(facts, self.rng)
        if kind == "follow_count":
            first = talker.turn("count", self.rng.choice(("en", "zh")))
            for _ in range(20):
                second = talker.turn("count", lang, ("count", first[1]))
                if second[1] != first[1]:
                    return [Conversation([first[0], second[0]])]
            return []
        method = {"read_latin": "read", "read_chinese": "read", "read_none": "read"}.get(kind, kind)
        made = talker.turn(method, lang)
        return [Conversation([made[0]])] if made else []

    def _talk(self, facts: Facts, kind: str) -> list[Conversation]:
        rng, talker = self.rng, Talker(facts, self.rng)
        weights = WEIGHTS["read" if kind.startswith("read") else kind]
        plan = rng.choice(((1, 1, 1, 1), (1, 1, 3), (2, 3), (1, 2, 2), (1, 4), (1, 5), (2, 2), (6,), (3, 2), (1, 1, 2)))
        if kind.startswith("read") and not facts.items:
            plan = rng.choice(((1, 1), (1, 2), (1, 1, 1), (2, 2), (3, 1)))
        if facts.stranger:  # its answers are long: a row has room for few
            plan = rng.choice(((1, 1, 1, 1), (1, 1, 2), (2, 2), (1, 3), (4,)))
        out = [talker.conversation(weights, turns) for turns in plan]
        if facts.stranger:
            out = [estranged(c, facts.stranger) for c in out]
        if rng.random() < 0.05:
            out.append(without_picture(rng))
        return [c for c in out if c]

    # ------------------------------------------------------------ things and shapes
    def _draw_empty(self, canvas) -> Facts:
        return Facts([])

    def _draw_name(self, canvas) -> Facts | None:
        kind = self._shape_kind() if self.rng.random() < 0.45 else self._thing_kind()
        return self._layout(canvas, [kind] * self.rng.choice((1, 1, 1, 2, 3, 4, 5, 6)))

    def _draw_count_hard(self, canvas) -> Facts | None:
        return self._draw_count(canvas, self.rng.choice((3, 4, 4, 5, 5, 6, 6)))

    def _draw_count(self, canvas, main: int = 0) -> Facts | None:
        rng = self.rng
        counts = [main or rng.randint(1, 6)]
        while sum(counts) < 8 and len(counts) < 4 and rng.random() < 0.5:
            counts.append(min(rng.choice((1, 1, 1, 2, 2, 3, 4)), 9 - sum(counts)))
        shapes = rng.random() < 0.22
        kinds = [self._shape_kind() if (shapes if rng.random() < 0.85 else not shapes) else self._thing_kind() for _ in counts]
        if len({kind[0] for kind in kinds}) < len(kinds):
            return None
        return self._layout(canvas, [kind for kind, n in zip(kinds, counts) for _ in range(n)])

    def _draw_place(self, canvas) -> Facts | None:
        rng = self.rng
        n = rng.choice((1, 2, 2, 3, 3, 4, 5))
        kinds = [self._shape_kind() if rng.random() < 0.3 else self._thing_kind() for _ in range(n)]
        if len({kind[0] for kind in kinds}) < n:
            return None
        return self._layout(canvas, kinds, spread=True)

    def _draw_things(self, canvas) -> Facts | None:
        rng = self.rng
        kinds = []
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
            kinds += [self._shape_kind() if rng.random() < 0.1 else self._thing_kind()] * rng.choice((1, 1, 1, 2, 3))
        return self._layout(canvas, kinds[:7])

    def _draw_shapes(self, canvas) -> Facts | None:
        return self._layout(canvas, [self._shape_kind() for _ in range(self.rng.choice((1, 1, 2, 2, 3, 4, 5)))])

    def _thing_kind(self) -> tuple[str, str | None]:
        return self.rng.choice(THINGS).key, None

    def _shape_kind(self) -> tuple[str, str | None]:
        return self.rng.choice(SHAPES).key, self.rng.choice(list(COLOURS))

    def _layout(self, canvas, kinds, spread: bool = False, taken=None, largest: float = 0.9) -> Facts | None:
        """Places and draws the kinds; None where they do not fit. Boxes are (x, y, rx, ry) in pixels."""
        rng = self.rng
        h, w = canvas.shape[:2]
        unit, n = min(w, h), len(kinds)
        kinds = list(kinds)
        rng.shuffle(kinds)
        top = min(largest, 0.95 / math.sqrt(n) if n > 1 else largest) * (0.6 if spread and n == 1 else 0.8 if spread else 1)
        base = math.exp(rng.uniform(math.log(0.075), math.log(top)))
        if n > 3 or rng.random() < 0.8:
            base = max(base, rng.uniform(0.1, 0.13))
        varied, overlap = rng.random() < 0.5, 0.22 if rng.random() < 0.3 else 0.0
        grid = self._grid(n, w, h) if n > 1 and not spread and taken is None and rng.random() < 0.25 else None
        boxes, items, jobs = list(taken or []), [], []
        outlined, any_angle = rng.random() < 0.15, rng.random() < 0.12
        for place, (key, colour) in enumerate(kinds):
            for attempt in range(60):
                size = unit * min(top, base * (rng.uniform(0.7, 1.4) if varied else 1)) * 0.97 ** attempt
                if grid:
                    size = min(size, 0.9 * grid[place][2])
                size = max(size, 0.07 * unit)
                job = self._job(key, colour, size, w, h, outlined, any_angle)
                rx, ry = job["box"]
                if rx * 2 >= w or ry * 2 >= h:
                    continue
                if grid:
                    x, y = grid[place][0] + rng.uniform(-0.05, 0.05) * size, grid[place][1] + rng.uniform(-0.05, 0.05) * size
                    x, y = min(max(x, rx), w - rx), min(max(y, ry), h - ry)
                elif spread:
                    column, row = rng.randrange(3), rng.randrange(3)
                    x, y = (column + rng.uniform(0.1, 0.9)) * w / 3, (row + rng.uniform(0.1, 0.9)) * h / 3
                    if not (rx <= x <= w - rx and ry <= y <= h - ry):
                        if attempt < 30:
                            continue
                        x, y = min(max(x, rx), w - rx), min(max(y, ry), h - ry)
                else:
                    x, y = rng.uniform(rx, w - rx), rng.uniform(ry, h - ry)
                box = (x, y, rx, ry)
                if all(_overlap(box, other) <= overlap for other in boxes):
                    break
            else:
                return None
            boxes.append(box)
            items.append(Item(key, colour, x / w, y / h, rx / w, ry / h))
            jobs.append((job, x, y))
        for item, (job, x, y) in zip(items, jobs):
            self._draw_item(canvas, item, job, x, y)
        return Facts(items)

    def _grid(self, n: int, w: int, h: int) -> list[tuple[float, float, float]]:
        """n places in rows and columns: centre and the largest size."""
        rng = self.rng
        columns = rng.choice((n, math.ceil(n / 2), math.ceil(math.sqrt(n)))) if w >= h else rng.choice((1, 2, math.ceil(math.sqrt(n))))
        columns = max(1, min(n, columns))
        rows = math.ceil(n / columns)
        pitch = min(w / columns, h / rows) * rng.uniform(0.6, 1)
        px, py = min(w / columns, pitch * rng.uniform(1, 1.3)), min(h / rows, pitch * rng.uniform(1, 1.3))
        x0 = (w - px * columns) * rng.random() + px / 2
        y0 = (h - py * rows) * rng.random() + py / 2
        return [(x0 + px * (k % columns), y0 + py * (k // columns), min(px, py)) for k in range(n)]

    def _job(self, key, colour, size, w, h, outlined, any_angle) -> dict:
        """How one thing or shape is to be drawn, with the half-sizes of its box."""
        rng = self.rng
        usual, gain = JITTER[self.split]
        if colour is None:
            angle = rng.uniform(-180, 180) if any_angle else rng.uniform(-usual, usual) * rng.random()
            sprite = rng.choice(self.sprites[key])
            k = size / max(sprite.w, sprite.h)
            bw, bh = draw.turned_box(sprite.w * k, sprite.h * k, angle)
            return {"sprite": sprite, "size": size, "angle": angle, "flip": rng.random() < 0.4, "gain": gain * rng.random(), "box": (bw / 2, bh / 2)}
        rx = ry = size / 2
        angle = rng.uniform(-8, 8)
        if key in ("star", "heart", "pentagon", "hexagon", "triangle", "cross"):
            angle = rng.uniform(-20, 20)
            rx *= rng.uniform(0.85, 1.15)
        elif key == "arrow":
            angle = rng.choice((0, 90, 180, 270)) + rng.uniform(-15, 15)
            ry *= rng.uniform(0.7, 1)
        elif key in ("oval", "rectangle"):
            # Squashing makes a circle of a wide picture an upright oval: a true oval is longer than that in the model's square.
            ratio = rng.uniform(2.05, 3)
            if rng.random() < 0.6:
                rx, ry = rx, rx / ratio * (h / w)
            else:
                rx, ry = ry / ratio * (w / h), ry
            grow = size / 2 / max(rx, ry)
            rx, ry, angle = rx * grow, ry * grow, rng.uniform(-5, 5)
        elif key == "diamond":
            rx *= rng.uniform(0.75, 1)
        line = size * rng.uniform(0.07, 0.13) if outlined and key not in ("cross", "arrow") else 0
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        points = [(x * rx * c - y * ry * s, x * rx * s + y * ry * c) for x, y in draw.OUTLINES[key]]
        box = max(abs(p[0]) for p in points) + line / 2, max(abs(p[1]) for p in points) + line / 2
        return {"rx": rx, "ry": ry, "angle": angle, "line": line, "box": box}

    def _draw_item(self, canvas, item: Item, job: dict, x: float, y: float) -> None:
        rng = self.rng
        if item.colour is None:
            draw.draw_sprite(canvas, job["sprite"], x, y, job["size"], job["angle"], job["flip"], rng, job["gain"])
            return
        under, spread = draw.mean_colour(canvas, x, y, *job["box"])
        rgb, line, border = draw.sample_colour(item.colour, rng), job["line"], None
        for _ in range(6):
            if draw.distance(rgb, under) >= 150:
                break
            rgb = draw.sample_colour(item.colour, rng)
        if draw.distance(rgb, under) < 130 or spread > 45:  # would hardly show: filled, with a rim
            line = 0
            border = (20, 20, 20) if draw.luminance(rgb) > 70 else (250, 250, 250)
        elif not line and rng.random() < 0.12:
            border = [v * 0.6 for v in rgb]
        draw.draw_shape(canvas, item.key, rgb, x, y, job["rx"], job["ry"], job["angle"], line, border, rng)

    # ------------------------------------------------------------ printed texts
    def _draw_read_latin(self, canvas) -> Facts | None:
        return self._draw_read(canvas, "latin")

    def _draw_read_chinese(self, canvas) -> Facts | None:
        return self._draw_read(canvas, "chinese")

    def _draw_read_hard(self, canvas) -> Facts | None:
        return self._draw_read(canvas, "latin", hard=True)

    def _draw_read(self, canvas, script: str, hard: bool = False) -> Facts | None:
        rng = self.rng
        h, w = canvas.shape[:2]
        lines = self.texts.lines(rng, script, hard)
        path, lacks = rng.choice(draw.fonts(self.split, script))
        if any(c in lacks for line in lines for c in line):
            return None
        beside = rng.random() < 0.3
        mask = draw.text_mask(lines, path, 64, rng.uniform(0.03, 0.25) if rng.random() < 0.12 else 0)
        mh, mw = mask.shape
        em = next(s for s in draw.FONT_SIZES if s >= 64)
        stretch = rng.uniform(0.82, 1.2) if rng.random() < 0.35 else 1.0
        angle = rng.uniform(-8, 8) if rng.random() < 0.4 else rng.uniform(-1.5, 1.5)
        shear = rng.uniform(-0.22, 0.22) if rng.random() < 0.2 else 0
        longest = max(len(line) for line in lines)
        # the smallest em (canvas pixels) that stays legible in the model's square, the largest that fits
        per_em = mw * stretch / em
        least_em, least_char = (16, 8.0) if script == "latin" else (19, 19.0)
        low = max(least_em * h / self.size, least_char * longest / per_em * w / self.size)
        tw, th = draw.turned_box(mw * stretch / em, mh / em, angle)
        high = min(0.95 * w / (tw + abs(shear) * mh / em), (0.5 if beside else 0.8) * h / (th + 0.1))
        if low > high:
            low = high
            if low * per_em / longest * self.size / w < 0.85 * least_char or low * self.size / h < 0.85 * least_em:
                return None
        size = low * (high / low) ** (rng.random() ** 0.75)
        if size > 70:
            mask = draw.text_mask(lines, path, size * max(1, stretch), 0) if mask.shape[0] * 3 < size * len(lines) else mask
        tw, th = mw * stretch / em * size, mh / em * size
        bw, bh = draw.turned_box(tw + abs(shear) * th, th, angle)
        rx, ry = bw / 2 + 1, bh / 2 + 1
        if rx * 2 > w or ry * 2 > h:
            return None
        x, y = rng.uniform(rx, w - rx), rng.uniform(ry, h - ry)
        if rng.random() < 0.35:
            x, y = w / 2, min(max(h / 2 + rng.uniform(-0.1, 0.1) * h, ry), h - ry)
        colour = self._print(canvas, mask, x, y, tw, th, rx, ry, angle, shear)
        facts = Facts([], lines, script, Item("text", colour, x / w, y / h, rx / w, ry / h))
        if beside:
            kinds = [self._shape_kind() if rng.random() < 0.5 else self._thing_kind() for _ in range(rng.choice((1, 1, 2, 3)))]
            pad = 0.25 * th
            more = self._layout(canvas, kinds, taken=[(x, y, rx + pad, ry + pad)], largest=0.4)
            facts.items = more.items if more else []
        return facts

    def _print(self, canvas, mask, x, y, w, h, rx, ry, angle, shear) -> str | None:
        """Prints with legible contrast: on the background where it is calm, on a panel or with an outline where not.

        Returns the name of the ink's colour."""
        rng = self.rng
        under, spread = draw.mean_colour(canvas, x, y, rx, ry)
        panel = outline = shadow = None
        if rng.random() < 0.25 or (spread > 30 and rng.random() < 0.6):
            panel = self.backgrounds.colour(rng)
            under, spread = panel, 0
        for _ in range(12):
            name, rgb = self._ink()
            if abs(draw.luminance(rgb) - draw.luminance(under)) > 85:
                break
        else:
            name, rgb = ("black", (15, 15, 15)) if draw.luminance(under) > 127 else ("white", (250, 250, 250))
        if spread > 30 or rng.random() < 0.06:
            outline = (255, 255, 255) if draw.luminance(rgb) < 110 else (10, 10, 10)
        elif rng.random() < 0.08 and h > 20:
            shadow = [v * 0.5 for v in under]
        draw.draw_text(canvas, mask, x, y, w, h, angle, shear, rgb, panel, outline, shadow)
        return name if h * self.size / canvas.shape[0] > 22 and not outline else None  # thin strokes hardly show their colour

    def _ink(self) -> tuple[str, tuple[int, int, int]]:
        share = self.rng.random()
        if share < 0.35:
            return "black", (self.rng.randint(0, 30),) * 3
        if share < 0.5:
            return "white", (self.rng.randint(243, 255),) * 3
        name = self.rng.choice(list(COLOURS))
        return name, draw.sample_colour(name, self.rng)


def _overlap(a, b) -> float:
    """The shared area as a part of the smaller box."""
    dx = min(a[0] + a[2], b[0] + b[2]) - max(a[0] - a[2], b[0] - b[2])
    dy = min(a[1] + a[3], b[1] + b[3]) - max(a[1] - a[3], b[1] - b[3])
    return 0.0 if dx <= 0 or dy <= 0 else dx * dy / (4 * min(a[2] * a[3], b[2] * b[3]))


# ---------------------------------------------------------------- looking at it
def contact_sheet(out: str, split: str = "train", count: int = 24, seed: int = 1) -> None:
    face = draw.font(next(p for p, _ in draw.fonts("train", "chinese") if "NotoSansCJK-Regular" in p), 15)
    gen, columns = Generator(seed, split), 6
    cell_w, cell_h = 400, 640
    sheet = Image.new("RGB", (columns * cell_w, math.ceil(count / columns) * cell_h), "white")
    pen = ImageDraw.Draw(sheet)
    for k in range(count):
        scene = gen.scene()
        x, y = k % columns * cell_w, k // columns * cell_h
        sheet.paste(Image.fromarray(scene.image), (x + 8, y + 8))
        lines = []
        for conversation in scene.conversations:
            for number, turn in enumerate(conversation):
                lines += textwrap.wrap(("  " if number else "• " if conversation.picture else "(no picture) ") + f"{turn.question} → {turn.answer!r}", 52)
        pen.text((x + 8, y + 400), "\n".join(lines[:12]), fill="black", font=face)
    sheet.save(out)


def large(folder: str, count: int = 300, seed: int = 5) -> None:
    gen, told = Generator(seed, "heldout"), []
    Path(folder).mkdir(parents=True, exist_ok=True)
    while len(told) < count:
        scene = gen.scene(full=4000)
        questions = list(dict.fromkeys(c[0].question for c in scene.conversations if c.picture))
        if not questions:
            continue
        file = f"{len(told):04}.{'jpg' if scene.media == 'image/jpeg' else 'png'}"
        (Path(folder) / file).write_bytes(scene.full)
        told.append({"file": file, "questions": questions})
    (Path(folder) / "questions.json").write_text(json.dumps(told, ensure_ascii=False, indent=1))


def main() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else "speed"
    if command == "large":
        large(sys.argv[2], *map(int, sys.argv[3:5]))
        return
    if command == "samples":
        out, split, count, seed = (sys.argv[2:] + ["samples.png", "train", "24", "1"][len(sys.argv) - 2 :])[:4]
        contact_sheet(out, split, int(count), int(seed))
        return
    gen = Generator(1, "train")
    for _ in range(300):
        gen.scene()
    start = time.process_time()
    for _ in range(1500):
        gen.scene()
    print(f"{1500 / (time.process_time() - start):.0f} scenes a second on one core")


if __name__ == "__main__":
    main()
