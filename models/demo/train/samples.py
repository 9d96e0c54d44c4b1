"""Draws the sample pictures of the page's empty state, each with a question and its right answer.

    python samples.py ../../../public/samples
"""

import json
import random
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import draw
import wordings

W, H = 640, 480


def _slope(top, bottom, h: int = H) -> np.ndarray:
    column = cv2.resize(np.array([[top], [bottom]], np.uint8), (1, h), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(np.repeat(column, W, axis=1))


def _sprite(canvas, key: str, which: int, x, y, size, angle=0, flip=False) -> None:
    draw.draw_sprite(canvas, draw.sprites()[key][which], x, y, size, angle, flip, random.Random(0), 0)


def _text(canvas, text: str, script: str, name: str, x, y, width, rgb) -> None:
    path = next(p for p, _ in draw.fonts("train", script) if name in p)
    mask = draw.text_mask([text], path, 200, 0)
    draw.draw_text(canvas, mask, x, y, width, width * mask.shape[0] / mask.shape[1], 0, 0, rgb, None, None, None)


def _board(canvas, x0, y0, x1, y1, fill, rim, radius=26) -> None:
    for grow, colour in ((8, rim), (0, fill)):
        a, b, c, d, r = x0 - grow, y0 - grow, x1 + grow, y1 + grow, radius + grow // 2
        cv2.rectangle(canvas, (a + r, b), (c - r, d), colour, -1)
        cv2.rectangle(canvas, (a, b + r), (c, d - r), colour, -1)
        for cx, cy in ((a + r, b + r), (c - r, b + r), (a + r, d - r), (c - r, d - r)):
            cv2.circle(canvas, (cx, cy), r, colour, -1, cv2.LINE_AA)


def animals() -> np.ndarray:
    canvas = np.concatenate([_slope((176, 216, 246), (226, 241, 252), 270), _slope((176, 214, 130), (128, 184, 96), H - 270)])
    canvas = np.ascontiguousarray(cv2.GaussianBlur(canvas, (0, 0), 5))
    _sprite(canvas, "cat", 0, 120, 190, 150, -6)
    _sprite(canvas, "cat", 0, 330, 130, 150, 5)
    _sprite(canvas, "cat", 0, 250, 345, 150, 2, True)
    _sprite(canvas, "dog", 0, 528, 250, 165, -4)
    return canvas


def shapes() -> np.ndarray:
    canvas, rng = _slope((252, 250, 244), (240, 234, 222)), random.Random(0)
    for key, rgb, x, y, r, angle in (("circle", (222, 40, 44), 150, 140, 82, 0), ("star", (250, 208, 24), 470, 150, 98, 6), ("square", (36, 92, 222), 320, 345, 78, -5)):
        draw.draw_shape(canvas, key, rgb, x, y, r, r, angle, 0, None, rng)
    return canvas


def sign() -> np.ndarray:
    canvas = _slope((208, 190, 170), (172, 150, 128))
    _board(canvas, 110, 140, 530, 340, (24, 84, 62), (244, 240, 230))
    _text(canvas, "OPEN", "latin", "LiberationSans-Bold", 320, 240, 320, (250, 248, 240))
    return canvas


def chinese_sign() -> np.ndarray:
    canvas = _slope((250, 240, 226), (232, 214, 190))
    _board(canvas, 100, 130, 540, 350, (186, 36, 32), (240, 202, 110))
    _text(canvas, "欢迎光临", "chinese", "NotoSerifCJK-Bold", 320, 240, 370, (255, 240, 200))
    return canvas


# name, drawing, what it shows, and questions with their right answers, each in English and Chinese
SAMPLES = [
    ("animals", animals, ("Three cats and a dog", "三只猫和一只狗"), [
        (("How many cats are there?", "3"), ("图里有几只猫？", "3")),
        (("Where is the dog?", "On the right."), ("狗在哪里？", "在右边。")),
        (("What is in the picture?", wordings.describe([("cat", None, 3), ("dog", None, 1)], [], "en")), ("图里有啥？", wordings.describe([("cat", None, 3), ("dog", None, 1)], [], "zh"))),
    ]),
    ("shapes", shapes, ("Coloured shapes", "彩色的图形"), [
        (("What colour is the circle?", wordings.colour_answer("red", "en")), ("圆形是什么颜色的？", wordings.colour_answer("red", "zh"))),
        (("Is there a blue square?", "Yes."), ("有没有蓝色的正方形？", "有。")),
    ]),
    ("sign", sign, ("A shop sign", "店铺的牌子"), [(("What does the sign say?", "OPEN"), ("提取文字，不要解释", "OPEN"))]),
    ("chinese-sign", chinese_sign, ("A Chinese sign", "中文牌子"), [(("Read the text", "欢迎光临"), ("图上写了什么字？", "欢迎光临"))]),
]


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    listing = []
    for name, make, (en, zh), talk in SAMPLES:
        Image.fromarray(make()).save(folder / f"{name}.jpg", quality=88, optimize=True)
        listing.append({
            "file": f"{name}.jpg",
            "alt": {"en": en, "zh": zh},
            "questions": [{"en": e[0], "zh": z[0]} for e, z in talk],
            "answers": [{"en": e[1], "zh": z[1]} for e, z in talk],
        })
    (folder / "samples.json").write_text(json.dumps(listing, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
