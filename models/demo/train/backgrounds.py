"""Backgrounds of every sort, and the wear and tear of real pictures (blur, noise, rescaling, JPEG).

The held-out split draws its parameters from ranges that training leaves out (see RANGES).
"""

import random

import cv2
import numpy as np

RANGES = {
    # period: stripes and checks as a part of the side; octaves: grid sizes of the blurred noise; quality: JPEG
    "train": {"period": ((0.02, 0.06), (0.09, 0.2)), "octaves": (2, 3, 4, 6, 8, 16, 32, 64), "quality": ((30, 52), (60, 95)), "hue": ((0.0, 0.28), (0.36, 0.62), (0.70, 1.0))},
    "heldout": {"period": ((0.06, 0.09),), "octaves": (5, 7, 11, 24, 48), "quality": ((53, 59), (72, 90)), "hue": ((0.28, 0.36), (0.62, 0.70), (0.0, 0.1))},
}


class Backgrounds:
    """Draws backgrounds for one split; holds a bank of noise made once from a fixed seed."""

    def __init__(self, split: str):
        self.ranges = RANGES[split]
        noise = np.random.default_rng(7 if split == "train" else 8).standard_normal((1400, 1400), dtype=np.float32)
        self.noise = np.clip(noise * 40 + 128, 0, 255).astype(np.uint8)

    def _between(self, rng: random.Random, name: str) -> float:
        low, high = rng.choice(self.ranges[name])
        return rng.uniform(low, high)

    def colour(self, rng: random.Random) -> np.ndarray:
        """A background colour, RGB: light ones and whites often, any other too."""
        draw = rng.random()
        if draw < 0.2:
            v = rng.choice((255, 255, 250, 245, 240))
            return np.array([v, v, v], np.float32)
        if draw < 0.26:
            v = rng.randint(0, 40)
            return np.array([v, v, v], np.float32)
        hue = self._between(rng, "hue") * 6
        if draw < 0.6:
            sat, val = rng.uniform(0.03, 0.35), rng.uniform(0.82, 1)
        else:
            sat, val = rng.uniform(0.05, 1), rng.uniform(0.12, 1)
        rgb = [val * (1 - sat * (1 - min(1.0, max(0.0, abs((hue - k) % 6 - 3) - 1)))) for k in (0, 2, 4)]
        return np.array(rgb, np.float32) * 255

    def near(self, rng: random.Random, colour: np.ndarray, reach: float) -> np.ndarray:
        return np.clip(colour + np.array([rng.uniform(-reach, reach) for _ in range(3)], np.float32) + rng.uniform(-reach, reach), 0, 255)

    def draw(self, rng: random.Random, w: int, h: int) -> np.ndarray:
        kind = rng.random()
        base = self.colour(rng)
        if kind < 0.34:
            return self._plain(base, w, h)
        if kind < 0.5:
            corners = np.stack([self.near(rng, base, 70) for _ in range(4)]).reshape(2, 2, 3)
            if rng.random() < 0.5:
                corners[1] = corners[0] if rng.random() < 0.5 else corners[1, ::-1]
            picture = self._smooth(corners, w, h)
        elif kind < 0.68:
            picture = self._texture(rng, base, w, h)
        else:
            picture = self._photo(rng, base, w, h)
        if rng.random() < 0.2:
            self._vignette(rng, picture)
        return picture

    @staticmethod
    def _plain(colour: np.ndarray, w: int, h: int) -> np.ndarray:
        return cv2.resize(colour.astype(np.uint8).reshape(1, 1, 3), (w, h), interpolation=cv2.INTER_NEAREST)

    @staticmethod
    def _smooth(grid: np.ndarray, w: int, h: int) -> np.ndarray:
        small = cv2.resize(grid.astype(np.float32), (32, 32), interpolation=cv2.INTER_LINEAR)
        return cv2.resize(np.clip(small, 0, 255).astype(np.uint8), (w, h), interpolation=cv2.INTER_LINEAR)

    def _texture(self, rng: random.Random, base: np.ndarray, w: int, h: int) -> np.ndarray:
        other = self.near(rng, base, rng.choice((12, 20, 35)))
        side = (w * h) ** 0.5
        period = max(4, int(self._between(rng, "period") * side))
        colours = np.stack([base, other]).astype(np.uint8)
        kind = rng.randrange(5)
        if kind == 0:  # dots, small ones: nobody would count them as circles
            period = min(period, max(5, int(side * rng.uniform(0.02, 0.05))))
            tile = self._plain(colours[0], period, period)
            cv2.circle(tile, (period // 2, period // 2), max(1, int(period * rng.uniform(0.15, 0.35))), colours[1].tolist(), -1, cv2.LINE_AA)
            return np.ascontiguousarray(np.tile(tile, (h // period + 1, w // period + 1, 1))[:h, :w])
        x, y = np.arange(w, dtype=np.int32), np.arange(h, dtype=np.int32)
        if kind == 1:  # checks
            index = ((x // period) & 1).astype(np.uint8)[None] ^ ((y // period) & 1).astype(np.uint8)[:, None]
        elif kind == 2:  # slanted stripes
            a, b = rng.choice(((1, 1), (1, -1), (2, 1), (1, 2), (-2, 1)))
            line = ((np.arange(4 * (w + h)) // period) & 1).astype(np.uint8)
            starts = (y * b + 2 * (w + h)) * line.itemsize  # each row is the same line, shifted
            index = np.stack([line[s : s + abs(a) * w : abs(a)] for s in starts.tolist()])
        elif kind == 3:  # upright or level stripes
            line = (x // period & 1)[None] if rng.random() < 0.5 else (y // period & 1)[:, None]
            index = np.repeat(line.astype(np.uint8), h if line.shape[0] == 1 else w, axis=0 if line.shape[0] == 1 else 1)
        else:  # thin lines or a grid
            thin = max(1, period // 10)
            across = (y % period < thin).astype(np.uint8) * (rng.random() < 0.7)
            index = (x % period < thin).astype(np.uint8)[None] | across.astype(np.uint8)[:, None]
        table = np.zeros((256, 1, 3), np.uint8)
        table[:2, 0] = colours
        return cv2.LUT(cv2.cvtColor(np.ascontiguousarray(index), cv2.COLOR_GRAY2RGB), table)

    def _photo(self, rng: random.Random, base: np.ndarray, w: int, h: int) -> np.ndarray:
        """Blurred noise on several scales, some of it coloured, with soft blobs: out-of-focus surroundings."""
        noise = np.random.default_rng(rng.getrandbits(48))
        first = rng.choice(self.ranges["octaves"][:3])
        grid = base + noise.standard_normal((first, first, 3), dtype=np.float32) * rng.uniform(10, 55)
        inner = cv2.resize(grid, (96, 96), interpolation=cv2.INTER_CUBIC)
        for _ in range(rng.randint(1, 3)):
            n = rng.choice(self.ranges["octaves"])
            layer = noise.standard_normal((n, n, rng.choice((1, 3))), dtype=np.float32) * rng.uniform(4, 26) * (4 / (3 + n)) ** 0.4
            layer = cv2.resize(layer, (96, 96), interpolation=cv2.INTER_CUBIC)
            inner += layer[..., None] if layer.ndim == 2 else layer
        inner = np.clip(inner, 0, 255).astype(np.uint8)
        blobs = rng.choice((0, 0, 1, 3, 6))
        for _ in range(blobs):
            colour = self.near(rng, base, 60).astype(int).tolist()
            centre, axes = (rng.randrange(96), rng.randrange(96)), (rng.randint(3, 26), rng.randint(3, 26))
            cv2.ellipse(inner, centre, axes, rng.randrange(180), 0, 360, colour, -1, cv2.LINE_AA)
        if rng.random() < 0.25:  # a horizon: table, floor, sky
            y = rng.randint(20, 80)
            inner[y:] = np.clip(inner[y:].astype(np.int16) + (self.near(rng, base, 60) - base).astype(np.int16), 0, 255)
        if blobs or rng.random() < 0.5:  # blobs stay soft: nobody would call them circles
            inner = cv2.GaussianBlur(inner, (0, 0), rng.uniform(4, 7) if blobs else rng.uniform(0.8, 4))
        picture = cv2.resize(inner, (w, h), interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            self._grain(rng, picture, rng.uniform(0.05, 0.25))
        return picture

    def _phone(self, rng: random.Random, picture: np.ndarray, sharp: bool) -> np.ndarray:
        """A colour cast, uneven light, blotches of colour noise, and edges sharpened too much."""
        h, w = picture.shape[:2]
        picture = cv2.transform(picture, np.diag([rng.uniform(0.93, 1.06) for _ in range(3)]).astype(np.float32))
        if rng.random() < 0.5:
            light = np.array([[rng.uniform(0.75, 1) for _ in range(2)] for _ in range(2)], np.float32) * 255
            light = cv2.resize(light.astype(np.uint8), (w, h), interpolation=cv2.INTER_LINEAR)
            picture = cv2.multiply(picture, cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), scale=1 / 255)
        if rng.random() < 0.6:
            coarse, amount = rng.choice((1, 2, 3)), rng.uniform(0.03, 0.12 if sharp else 0.2)
            bank, nh, nw = self.noise, -(-h // coarse), -(-w // coarse)
            if max(nh, nw) > bank.shape[0]:
                bank = np.tile(bank, (nh // bank.shape[0] + 1, nw // bank.shape[1] + 1))
            y, x = rng.randint(0, bank.shape[0] - nh), rng.randint(0, bank.shape[1] - nw)
            part = bank[y : y + nh, x : x + nw]
            noise = cv2.resize(cv2.merge((part, cv2.flip(part, 0), cv2.flip(part, 1))), (w, h), interpolation=cv2.INTER_LINEAR)
            picture = cv2.addWeighted(picture, 1, noise, amount, -128 * amount)
        if rng.random() < 0.5:
            gain = rng.uniform(0.3, 1)
            picture = cv2.addWeighted(picture, 1 + gain, cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 1.6)), -gain, 0)
        return picture

    def _grain(self, rng: random.Random, picture: np.ndarray, amount: float) -> None:
        h, w = picture.shape[:2]
        size = self.noise.shape[0]
        bank = self.noise
        if h > size or w > size:
            bank = np.tile(bank, (h // size + 1, w // size + 1))
        y, x = rng.randint(0, bank.shape[0] - h), rng.randint(0, bank.shape[1] - w)
        grain = cv2.cvtColor(bank[y : y + h, x : x + w], cv2.COLOR_GRAY2RGB)
        cv2.addWeighted(picture, 1, grain, amount, -128 * amount, dst=picture)

    @staticmethod
    def _vignette(rng: random.Random, picture: np.ndarray) -> None:
        h, w = picture.shape[:2]
        axis = np.linspace(-1, 1, 24, dtype=np.float32)
        shade = 255 * (1 - rng.uniform(0.15, 0.5) * np.clip((axis[None] ** 2 + axis[:, None] ** 2) / 2, 0, 1))
        shade = cv2.resize(shade.astype(np.uint8), (w, h), interpolation=cv2.INTER_LINEAR)
        cv2.multiply(picture, cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB), dst=picture, scale=1 / 255)

    def wear(self, rng: random.Random, picture: np.ndarray, sharp: bool, phone: float = 0.0) -> tuple[np.ndarray, int]:
        """Blur, noise and rescaling now and then; returns the picture and a JPEG quality (0: no JPEG).

        `sharp` keeps it readable: only the mildest blur, no hard downscaling, no hard compression. `phone` is the share
        of pictures that look taken by a phone. Drawn scenes and photographs wear alike, in this one place:
        else the wear, and not the picture, would tell them apart."""
        if phone and rng.random() < phone:
            picture = self._phone(rng, picture, sharp)
        draw = rng.random()
        if draw < 0.10:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 0.7 if sharp else 1.2))
        elif draw < 0.18:
            h, w = picture.shape[:2]
            f = rng.uniform(0.75 if sharp else 0.5, 0.95)
            small = cv2.resize(picture, (max(1, int(w * f)), max(1, int(h * f))), interpolation=cv2.INTER_AREA)
            picture = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.15:
            self._grain(rng, picture, rng.uniform(0.03, 0.12 if sharp else 0.2))
        if rng.random() < 0.15:
            cv2.convertScaleAbs(picture, dst=picture, alpha=rng.uniform(0.85, 1.08), beta=rng.uniform(-4, 10))
        quality = int(self._between(rng, "quality")) if rng.random() < 0.5 else 0
        return picture, max(quality, 45) if sharp and quality else quality
