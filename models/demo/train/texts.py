"""Printed texts: arbitrary strings, words, numbers, Chinese. A text is of the train or of the held-out split by its hash."""

import hashlib
import random

from charset import AMBIGUOUS, CHINESE, DIGITS, LATIN_LOWER, LATIN_UPPER
from draw import ASSETS

SIGNS = """open closed exit stop sale free wifi hello welcome menu push pull danger hotel cafe taxi police school library museum parking
toilet ticket bank market pizza coffee bakery office private staff only no entry way out keep left slow thank you good morning happy
birthday new year love home sweet music summer winter spring autumn garden street avenue station airport platform gate room floor""".split()
PRICES = ("${}.{:02d}", "£{}.{:02d}", "€{}.{:02d}", "{}.{:02d}", "{}:{:02d}", "{}-{:02d}")


def _split(text: str) -> str:
    return "heldout" if hashlib.blake2s(text.lower().encode(), digest_size=1).digest()[0] < 40 else "train"


class Texts:
    def __init__(self, split: str):
        self.split = split
        self.english = (ASSETS / "words_en.txt").read_text().split()
        self.chinese = (ASSETS / "words_zh.txt").read_text(encoding="utf-8").split()
        letters = LATIN_UPPER + LATIN_LOWER + DIGITS
        self.clear = {name: "".join(c for c in pool if c not in AMBIGUOUS) for name, pool in self._pools(letters).items()}
        self.all = self._pools(letters)

    @staticmethod
    def _pools(letters: str) -> dict[str, str]:
        return {"upper": LATIN_UPPER, "lower": LATIN_LOWER, "digits": DIGITS, "plate": LATIN_UPPER + DIGITS, "mixed": letters, "code": LATIN_LOWER + DIGITS}

    def lines(self, rng: random.Random, script: str, hard: bool = False) -> list[str]:
        """One line, sometimes two: 3 to 12 Latin characters or 1 to 6 Chinese ones a line.

        hard: long strings without sense, most of them of capitals, small letters and digits together."""
        make = self._han if script == "chinese" else self._long if hard else self._latin
        count = 2 if rng.random() < 0.06 else 1
        out = []
        while len(out) < count:
            text = make(rng) if count == 1 else make(rng)[: 8 if script == "latin" else 4].strip(" -:.")
            if text and (_split(text) == self.split or len(text) == 1):
                out.append(text)
        return out

    def _latin(self, rng: random.Random) -> str:
        draw = rng.random()
        if draw < 0.42:
            return self._senseless(rng, ("upper", "lower", "digits", "plate", "plate", "mixed", "mixed", "code"), 3)
        if draw < 0.80:
            text = rng.choice(self.english) if rng.random() < 0.85 else rng.choice(SIGNS)
            if rng.random() < 0.25:
                other = rng.choice(self.english) if rng.random() < 0.6 else rng.choice(SIGNS)
                if len(text) + len(other) < 12:
                    text += " " + other
            return rng.choice((text, text.capitalize(), text.upper(), text.upper(), text.title())) + ("!" if rng.random() < 0.03 and len(text) < 12 else "")
        if draw < 0.90:
            return rng.choice(PRICES).format(rng.randint(0, 999) if rng.random() < 0.7 else rng.randint(0, 23), rng.randint(0, 99))
        if draw < 0.95:
            letters = "".join(rng.choice(self.clear["upper"]) for _ in range(rng.randint(1, 3)))
            return f"{letters}{rng.choice(('-', ' ', ''))}{rng.randint(10, 99999)}"
        return rng.choice(("{}/{}", "{}-{}", "{}%", "No. {}", "Room {}", "Gate {}", "Line {}", "{} km", "+{} {}")).format(rng.randint(1, 999), rng.randint(1, 999))

    def _long(self, rng: random.Random) -> str:
        return self._senseless(rng, ("mixed", "mixed", "mixed", "mixed", "plate", "code", "upper", "lower"), 6)

    def _senseless(self, rng: random.Random, pools: tuple[str, ...], shortest: int) -> str:
        pool = rng.choice(pools)
        letters = (self.all if self.split == "train" and rng.random() < 0.12 else self.clear)[pool]
        if pool == "digits" or self.split == "train" and pool == "upper" and rng.random() < 0.4:
            letters = self.all[pool]  # digits or capitals among themselves are clear
        n = rng.randint(shortest, 12)
        text = "".join(rng.choice(letters) for _ in range(n))
        if n >= 5 and rng.random() < 0.2:
            at = rng.randint(1, n - 2)
            text = text[:at] + rng.choice("-:.-/ ") + text[at + 1 :]
        return text

    def _han(self, rng: random.Random) -> str:
        draw = rng.random()
        if draw < 0.55:
            n = rng.choice((1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)) if self.split == "train" else rng.choice((2, 3, 4, 5, 6))
            return "".join(rng.choice(CHINESE) for _ in range(n))
        text = rng.choice(self.chinese)
        while rng.random() < 0.5:
            other = rng.choice(self.chinese)
            if len(text) + len(other) > 6:
                break
            text += other
        if draw > 0.95 and len(text) < 5:
            text = rng.choice((f"{rng.randint(1, 99)}{text}", f"{text}{rng.randint(1, 99)}"))
        return text
