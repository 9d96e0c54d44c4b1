"""Screenshots, documents, charts and comics for strangers_assets.py: pages of random words, rendered by headless Chromium.

Each split has page layouts, fonts and clip-art of its own.
"""

import html
import math
import random
import subprocess
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
ASSETS = HERE / "assets"
EACH = 7  # pages of each layout
STACK = 12  # pages of one picture that Chromium takes: starting it costs most


class Page:
    """What the layouts draw from: words, colours and fonts of one page."""

    def __init__(self, rng: random.Random, split: str, cliparts: list[Path]):
        self.rng, self.split, self.cliparts = rng, split, cliparts
        self.zh = rng.random() < 0.4
        self.pool = (ASSETS / f"words_{'zh' if self.zh else 'en'}.txt").read_text(encoding="utf-8").split()
        folder = ASSETS / "fonts" / split
        chinese = ["NotoSansCJK-Regular", "NotoSerifCJK-Regular", "wqy-microhei"] if split == "train" else ["wqy-zenhei", "uming"]
        latin = ["Roboto-Regular", "Lato-Regular", "LiberationSans-Regular", "LiberationSerif-Regular", "DejaVuSans", "NotoSans-Regular"] if split == "train" else ["OpenSans-Regular", "PTF55F", "Inter-Regular", "Carlito-Regular"]
        self.font = (folder / (rng.choice(chinese if self.zh else latin) + ".otf")).as_uri()
        self.dark = rng.random() < 0.25
        self.hue = rng.randrange(360)
        self.back, self.ink = ("#1d1f24", "#e4e4e4") if self.dark else (rng.choice(("#fff", "#fff", "#f6f6f4", "#fbf7ee")), "#222")
        self.soft = f"hsl({self.hue} 30% {24 if self.dark else 92}%)"
        self.strong = f"hsl({self.hue} {rng.randint(40, 80)}% {rng.randint(35, 50)}%)"

    def words(self, low: int, high: int) -> str:
        chosen = [self.rng.choice(self.pool) for _ in range(self.rng.randint(low, high))]
        text = "".join(chosen) if self.zh else " ".join(chosen).capitalize()
        return html.escape(text)

    def text(self, sentences: int) -> str:
        return ("" if self.zh else " ").join(self.words(4, 11) + ("。" if self.zh else ".") for _ in range(sentences))

    def number(self) -> str:
        return f"{self.rng.choice((self.rng.randint(1, 99), self.rng.randint(100, 99999)))}{self.rng.choice(('', '', '.50', '%'))}"

    def many(self, low: int, high: int, make) -> str:
        return "".join(make(k) for k in range(self.rng.randint(low, high)))

    def clip(self, style: str) -> str:
        return f"<img src='{self.rng.choice(self.cliparts).as_uri()}' style='{style}'>"

    def block(self) -> str:
        return f"<div style='width:40px;height:40px;border-radius:{self.rng.choice((4, 20))}px;background:hsl({self.rng.randrange(360)} 50% 60%)'></div>"


# ---------------------------------------------------------------- screens
def mail(p: Page) -> str:
    rows = p.many(9, 16, lambda k: f"<div style='display:flex;gap:14px;padding:7px;border-bottom:1px solid #8884;font-weight:{p.rng.choice((400, 700))}'><span>☐</span><span style='width:130px;overflow:hidden;white-space:nowrap'>{p.words(1, 2)}</span><span style='flex:1;overflow:hidden;white-space:nowrap'>{p.words(4, 12)}</span><span>{p.rng.randint(1, 23)}:{p.rng.randint(10, 59)}</span></div>")
    return f"<div style='background:{p.strong};color:#fff;padding:12px'>{p.words(1, 2)}<span style='background:#fff3;padding:4px 120px 4px 12px;margin-left:60px'>{p.words(1, 1)}</span></div><div style='display:flex'><div style='width:150px;padding:12px;line-height:2;background:{p.soft}'>{p.many(5, 9, lambda k: p.words(1, 1) + '<br>')}</div><div style='flex:1'>{rows}</div></div>"


def article(p: Page) -> str:
    picture = f"<div style='float:right;width:220px;height:150px;margin:8px;background:{p.soft}'>{p.clip('height:150px')}</div>"
    return f"<div style='border-bottom:3px solid {p.strong};padding:10px;font-size:22px'>{p.words(1, 2)}</div><div style='padding:8px 40px;columns:{p.rng.choice((1, 1, 2))}'><h1>{p.words(4, 8)}</h1><small>{p.words(2, 3)} · {p.rng.randint(1, 28)}.{p.rng.randint(1, 12)}.</small>{picture}<p>{p.text(5)}</p><p>{p.text(6)}</p><p>{p.text(7)}</p></div>"


def editor(p: Page) -> str:
    colours = ("#c678dd", "#61afef", "#98c379", "#d19a66", "#999")
    def line(k):
        words = " ".join(f"<span style='color:{p.rng.choice(colours)}'>{p.rng.choice(p.pool)}{p.rng.choice(('', '()', ' =', ';', ','))}</span>" for _ in range(p.rng.randint(0, 6)))
        return f"<div><span style='color:#777;display:inline-block;width:34px'>{k + 1}</span>{'&nbsp;' * 4 * p.rng.randint(0, 3)}{words}</div>"
    return f"<div style='display:flex;background:{'#282c34' if p.rng.random() < 0.7 else '#fdf6e3'};height:100%'><div style='width:160px;padding:10px;color:#999;line-height:1.7'>{p.many(8, 16, lambda k: p.words(1, 1) + '.rs<br>')}</div><div style='padding:10px;font-family:monospace;font-size:14px;line-height:1.45'>{p.many(25, 40, line)}</div></div>"


def sheet(p: Page) -> str:
    columns = p.rng.randint(5, 9)
    cell = "border:1px solid #8886;padding:3px 8px;height:18px;overflow:hidden;max-width:90px;white-space:nowrap"
    head = "<tr>" + "".join(f"<th style='{cell};background:{p.soft}'>{c}</th>" for c in " ABCDEFGHI"[:columns + 1]) + "</tr>"
    rows = p.many(16, 26, lambda k: f"<tr><td style='{cell};background:{p.soft}'>{k + 1}</td><td style='{cell}'>{p.words(1, 2)}</td>" + "".join(f"<td style='{cell};text-align:right'>{p.number() if p.rng.random() < 0.8 else ''}</td>" for _ in range(columns - 1)) + "</tr>")
    return f"<div style='background:{p.strong};color:#fff;padding:8px'>{p.words(2, 3)}</div><div style='padding:6px;background:{p.soft}'>{p.words(5, 9)}</div><table style='border-collapse:collapse;font-size:13px'>{head}{rows}</table>"


def chat(p: Page) -> str:
    def bubble(k):
        mine = p.rng.random() < 0.5
        return f"<div style='display:flex;justify-content:flex-{'end' if mine else 'start'};margin:8px;gap:8px'>{'' if mine else p.block()}<div style='max-width:60%;padding:9px 14px;border-radius:16px;background:{p.strong if mine else p.soft};color:{'#fff' if mine else p.ink}'>{p.words(1, 12)}</div></div>"
    return f"<div style='padding:14px;background:{p.soft}'>‹ &nbsp; {p.words(1, 2)}</div>{p.many(8, 13, bubble)}"


def shop(p: Page) -> str:
    card = lambda k: f"<div style='border:1px solid #8883;border-radius:8px;padding:8px'><div style='height:96px;text-align:center'>{p.clip('max-height:92px;max-width:100%')}</div><b>{p.words(1, 3)}</b><br>{p.rng.randint(1, 299)}.{p.rng.randint(10, 99)} €<br><span style='color:orange'>★★★★☆</span></div>"
    return f"<div style='background:{p.strong};color:#fff;padding:14px'>{p.words(1, 1)} &nbsp; {p.words(1, 1)} &nbsp; {p.words(1, 1)}</div><div style='display:grid;grid-template-columns:repeat({p.rng.choice((3, 4))},1fr);gap:12px;padding:14px'>{p.many(9, 12, card)}</div>"


def settings(p: Page) -> str:
    row = lambda k: f"<div style='display:flex;justify-content:space-between;padding:13px;border-bottom:1px solid #8883'><span>{p.words(1, 4)}<br><small style='opacity:.6'>{p.words(3, 7)}</small></span><span style='width:38px;height:20px;border-radius:12px;background:{p.rng.choice((p.strong, '#aaa'))}'></span></div>"
    return f"<h2 style='padding:0 14px'>{p.words(1, 2)}</h2>{p.many(7, 11, row)}"


def terminal(p: Page) -> str:
    line = lambda k: f"<div style='color:{p.rng.choice(('#ddd', '#ddd', '#8ae234', '#729fcf', '#fce94f'))}'>{p.rng.choice(('$ ', '', '', '-rw-r--r-- 1 '))}{p.words(2, 9).lower()}</div>"
    return f"<div style='background:{p.rng.choice(('#000', '#300a24', '#1e1e1e'))};height:100%;padding:8px;font-family:monospace;font-size:14px;line-height:1.4'>{p.many(28, 40, line)}</div>"


def calendar(p: Page) -> str:
    day = lambda k: f"<div style='border:1px solid #8884;padding:4px;height:70px;font-size:11px;overflow:hidden'>{k % 31 + 1}" + (f"<div style='background:hsl({p.rng.randrange(360)} 55% 75%);color:#222;border-radius:3px;padding:2px;margin-top:3px'>{p.words(1, 3)}</div>" if p.rng.random() < 0.4 else "") + "</div>"
    return f"<h2 style='padding:0 10px;color:{p.strong}'>{p.words(1, 1)} {p.rng.randint(1990, 2030)}</h2><div style='display:grid;grid-template-columns:repeat(7,1fr)'>{p.many(35, 35, day)}</div>"


def files(p: Page) -> str:
    icon = lambda k: f"<div style='width:88px;text-align:center;font-size:12px;overflow:hidden'><div style='width:52px;height:40px;margin:0 auto 4px;border-radius:5px;background:{p.strong if p.rng.random() < 0.7 else '#bbb'};border-top:7px solid #0003'></div>{p.words(1, 1)}</div>"
    return f"<div style='padding:9px;background:{p.soft}'>← → ↑ &nbsp; {p.words(1, 1)} / {p.words(1, 1)} / {p.words(1, 1)}</div><div style='display:flex'><div style='width:140px;padding:12px;line-height:2;border-right:1px solid #8884'>{p.many(6, 9, lambda k: p.words(1, 1) + '<br>')}</div><div style='display:flex;flex-wrap:wrap;gap:16px;padding:16px;flex:1;align-content:flex-start'>{p.many(14, 28, icon)}</div></div>"


def forum(p: Page) -> str:
    post = lambda k: f"<div style='display:flex;gap:12px;margin:10px;padding:10px;border:1px solid #8884;border-left:4px solid {p.strong};margin-left:{10 + 26 * p.rng.randint(0, 2)}px'>{p.block()}<div><b>{p.words(1, 1)}</b> <small>{p.rng.randint(1, 23)} h</small><br>{p.text(p.rng.randint(1, 3))}<br><small style='color:{p.strong}'>▲ {p.rng.randint(1, 400)} &nbsp; {p.words(1, 1)}</small></div></div>"
    return f"<h3 style='padding:0 12px'>{p.words(4, 9)}</h3>{p.many(5, 8, post)}"


def player(p: Page) -> str:
    row = lambda k: f"<div style='display:flex;gap:14px;padding:9px 16px;background:{p.soft if k % 2 else 'none'}'><span style='width:20px'>{k + 1}</span><span style='flex:1'>{p.words(1, 4)}</span><span style='width:140px'>{p.words(1, 2)}</span><span>{p.rng.randint(1, 7)}:{p.rng.randint(10, 59)}</span></div>"
    return f"<div style='display:flex;gap:20px;padding:18px;background:linear-gradient({p.strong},transparent)'><div style='width:130px;height:130px;background:{p.soft}'>{p.clip('max-width:130px;max-height:130px')}</div><div><h1>{p.words(1, 3)}</h1>{p.words(2, 5)}</div></div>{p.many(9, 14, row)}<div style='position:absolute;bottom:0;width:100%;padding:14px;background:{p.soft};text-align:center'>◀◀ &nbsp; ▶ &nbsp; ▶▶ <span style='display:inline-block;width:300px;height:4px;background:{p.strong};margin:4px 20px'></span></div>"


# ---------------------------------------------------------------- papers
def letter(p: Page) -> str:
    return f"<div style='padding:60px 64px;font-size:15px'><div style='text-align:right'>{p.words(1, 2)}<br>{p.words(2, 3)}<br>{p.rng.randint(10000, 99999)} {p.words(1, 1)}</div><p>{p.words(1, 2)}<br>{p.words(2, 3)}</p><h3>{p.words(3, 6)}</h3><p>{p.text(4)}</p><p>{p.text(6)}</p><p>{p.text(3)}</p><p>{p.words(2, 3)}</p></div>"


def paper(p: Page) -> str:
    return f"<div style='padding:40px'><h2 style='text-align:center'>{p.words(5, 9)}</h2><p style='text-align:center'>{p.words(2, 2)}, {p.words(2, 2)}</p><div style='columns:2;font-size:12px;text-align:justify'><b>{p.words(1, 1)}</b><p>{p.text(9)}</p><b>1. {p.words(1, 2)}</b><p>{p.text(12)}</p><b>2. {p.words(1, 2)}</b><p>{p.text(14)}</p></div></div>"


def invoice(p: Page) -> str:
    row = lambda k: f"<tr><td style='padding:6px;border-bottom:1px solid #999'>{k + 1}</td><td style='border-bottom:1px solid #999'>{p.words(2, 4)}</td><td style='border-bottom:1px solid #999;text-align:right'>{p.number()}</td><td style='border-bottom:1px solid #999;text-align:right'>{p.rng.randint(1, 900)}.00</td></tr>"
    return f"<div style='padding:48px'><h1 style='color:{p.strong}'>{p.words(1, 1)}</h1><p>{p.words(2, 3)}<br>No. {p.rng.randint(1000, 99999)}</p><table style='width:100%;border-collapse:collapse;font-size:14px'>{p.many(4, 10, row)}</table><h3 style='text-align:right'>{p.rng.randint(10, 9999)}.00 €</h3><p>{p.text(2)}</p></div>"


def book(p: Page) -> str:
    return f"<div style='padding:56px 70px;font-size:17px;line-height:1.6;text-align:justify'><p style='text-align:center'>{p.rng.randint(2, 400)}</p>{p.many(4, 4, lambda k: '<p style=text-indent:2em>' + p.text(p.rng.randint(3, 6)) + '</p>')}</div>"


def form(p: Page) -> str:
    field = lambda k: f"<div style='margin:16px 0'>{p.words(1, 3)}<div style='border:1px solid #777;height:24px;margin-top:4px;padding:3px;color:#24a;font-style:italic'>{p.words(1, 3) if p.rng.random() < 0.5 else ''}</div></div>"
    return f"<div style='padding:44px'><h2 style='border-bottom:2px solid {p.ink}'>{p.words(2, 4)}</h2><p style='font-size:12px'>{p.text(2)}</p>{p.many(6, 8, field)}<p>☐ {p.words(3, 6)}<br>☑ {p.words(3, 6)}</p></div>"


def newspaper(p: Page) -> str:
    return f"<div style='padding:26px'><h1 style='text-align:center;font-size:48px;margin:0;border-bottom:4px double'>{p.words(1, 2)}</h1><div style='columns:3;font-size:12px;text-align:justify;margin-top:12px'>{p.many(5, 5, lambda k: '<h3>' + p.words(3, 6) + '</h3><p>' + p.text(6) + '</p>')}</div></div>"


def receipt(p: Page) -> str:
    row = lambda k: f"<div style='display:flex;justify-content:space-between'><span>{p.words(1, 2)}</span><span>{p.rng.randint(0, 40)}.{p.rng.randint(10, 99)}</span></div>"
    return f"<div style='width:270px;margin:20px auto;padding:20px;background:#fff;color:#333;font-family:monospace,P;box-shadow:0 0 8px #0006;font-size:15px'><h3 style='text-align:center'>{p.words(1, 2)}</h3>{p.many(7, 14, row)}<hr>{row(0)}<p style='text-align:center'>{p.words(2, 4)}</p></div>"


# ---------------------------------------------------------------- charts
def _axes(p: Page, inner: str, xs: int = 6) -> str:
    lines = "".join(f"<line x1='60' x2='520' y1='{60 + 55 * k}' y2='{60 + 55 * k}' stroke='#8885'/><text x='52' y='{64 + 55 * k}' text-anchor='end' font-size='12' fill='{p.ink}'>{(6 - k) * 20}</text>" for k in range(7))
    ticks = "".join(f"<text x='{60 + 460 * (k + 0.5) / xs:.0f}' y='412' text-anchor='middle' font-size='12' fill='{p.ink}'>{p.words(1, 1)[:5]}</text>" for k in range(xs))
    return f"<svg width='560' height='450'><text x='290' y='34' text-anchor='middle' font-size='19' fill='{p.ink}'>{p.words(2, 4)}</text>{lines}{inner}{ticks}<path d='M60 60V390H520' fill='none' stroke='{p.ink}'/></svg>"


def _hues(p: Page, n: int) -> list[str]:
    return [f"hsl({p.hue + 360 * k / n:.0f} 60% 50%)" for k in range(n)]


def bars(p: Page) -> str:
    n, series = p.rng.randint(4, 8), p.rng.randint(1, 3)
    width = 460 / n / (series + 0.6)
    inner = ""
    for s, colour in enumerate(_hues(p, series)):
        for k in range(n):
            height = p.rng.randint(20, 320)
            inner += f"<rect x='{60 + 460 * (k + 0.15) / n + s * width:.0f}' y='{390 - height}' width='{width:.0f}' height='{height}' fill='{colour}'/>"
    return _axes(p, inner, n)


def lines(p: Page) -> str:
    inner = ""
    for colour in _hues(p, p.rng.randint(1, 4)):
        y, points = p.rng.randint(120, 330), []
        for x in range(60, 521, p.rng.choice((10, 23, 46))):
            y = min(385, max(65, y + p.rng.randint(-40, 38)))
            points.append(f"{x},{y}")
        inner += f"<polyline points='{' '.join(points)}' fill='none' stroke='{colour}' stroke-width='{p.rng.choice((1.5, 2.5, 4))}'/>"
    return _axes(p, inner)


def scatter(p: Page) -> str:
    inner, slope = "", p.rng.uniform(-0.6, 0.6)
    for colour in _hues(p, p.rng.randint(1, 3)):
        for _ in range(p.rng.randint(25, 120)):
            x = p.rng.uniform(70, 510)
            y = min(385, max(65, 225 + slope * (x - 290) + p.rng.gauss(0, 50)))
            inner += f"<circle cx='{x:.0f}' cy='{y:.0f}' r='{p.rng.choice((3, 4))}' fill='{colour}' opacity='.7'/>"
    return _axes(p, inner)


def pie(p: Page) -> str:
    parts = [p.rng.uniform(0.5, 3) for _ in range(p.rng.randint(3, 7))]
    at, inner = 0.0, ""
    for part, colour in zip(parts, _hues(p, len(parts))):
        a, b = (2 * math.pi * v / sum(parts) for v in (at, at + part))
        at += part
        inner += f"<path d='M200 240L{200 + 150 * math.cos(a):.0f} {240 + 150 * math.sin(a):.0f}A150 150 0 {int(b - a > math.pi)} 1 {200 + 150 * math.cos(b):.0f} {240 + 150 * math.sin(b):.0f}Z' fill='{colour}' stroke='#fff'/>"
        inner += f"<text x='{200 + 95 * math.cos((a + b) / 2):.0f}' y='{240 + 95 * math.sin((a + b) / 2):.0f}' fill='#fff' font-size='13'>{part * 100 / sum(parts):.0f}%</text>"
        inner += f"<text x='400' y='{150 + 24 * len(inner.split('<path')):.0f}' fill='{colour}' font-size='15'>■ {p.words(1, 1)}</text>"
    return f"<svg width='560' height='450'><text x='280' y='40' text-anchor='middle' font-size='20' fill='{p.ink}'>{p.words(2, 4)}</text>{inner}</svg>"


def areas(p: Page) -> str:
    inner = ""
    for k, colour in enumerate(_hues(p, 3)):
        points = " ".join(f"{x},{150 + 60 * k + p.rng.randint(-40, 40)}" for x in range(60, 521, 46))
        inner += f"<polygon points='60,390 {points} 520,390' fill='{colour}' opacity='.8'/>"
    return _axes(p, inner)


def heat(p: Page) -> str:
    n = p.rng.randint(6, 12)
    inner = "".join(f"<rect x='{60 + 460 * i / n:.1f}' y='{60 + 330 * j / n:.1f}' width='{460 / n:.1f}' height='{330 / n:.1f}' fill='hsl({p.hue} 70% {p.rng.randint(20, 92)}%)'/>" for i in range(n) for j in range(n))
    return _axes(p, inner)


def boxes(p: Page) -> str:
    n, inner = p.rng.randint(3, 7), ""
    for k in range(n):
        x, low = 60 + 460 * (k + 0.5) / n, p.rng.randint(240, 360)
        high = low - p.rng.randint(50, 140)
        inner += f"<line x1='{x:.0f}' x2='{x:.0f}' y1='{low + 20}' y2='{high - 40}' stroke='{p.ink}'/><rect x='{x - 18:.0f}' y='{high}' width='36' height='{low - high}' fill='{p.soft}' stroke='{p.ink}'/><line x1='{x - 18:.0f}' x2='{x + 18:.0f}' y1='{(low + high) // 2}' y2='{(low + high) // 2}' stroke='{p.strong}' stroke-width='3'/>"
    return _axes(p, inner, n)


# ---------------------------------------------------------------- comics
def _panel(p: Page, style: str) -> str:
    say = lambda: f"<span style='position:absolute;left:{p.rng.randint(4, 34)}%;top:{p.rng.randint(2, 14)}%;background:#fff;color:#111;border:2px solid #111;border-radius:50%;padding:9px 16px;max-width:56%;font-size:14px;text-align:center;z-index:2'>{p.words(2, 6)}</span>"
    figures = p.many(1, 2, lambda k: p.clip(f"position:absolute;bottom:0;left:{p.rng.randint(2, 20) + 44 * k}%;max-width:48%;max-height:68%"))
    return f"<div style='position:relative;border:3px solid #111;overflow:hidden;background:hsl({p.rng.randrange(360)} {p.rng.randint(20, 70)}% {p.rng.randint(70, 92)}%);{style}'>{figures}{say()}</div>"


def strip(p: Page) -> str:
    return f"<div style='display:grid;grid-template-columns:repeat({p.rng.choice((2, 3))},1fr);gap:10px;padding:14px;background:#fff'>{p.many(4, 6, lambda k: _panel(p, 'height:210px'))}</div>"


def comic_page(p: Page) -> str:
    rows = p.many(3, 3, lambda k: f"<div style='display:flex;gap:8px;margin-bottom:8px'>{p.many(1, 3, lambda j: _panel(p, f'height:220px;flex:{p.rng.choice((1, 1, 2))}'))}</div>")
    return f"<div style='padding:10px;background:{p.rng.choice(('#fff', '#111', '#f3ead8'))}'>{rows}</div>"


LAYOUTS = [  # split, kind, layout, width, height
    *[("train", "screenshot", f, w, h) for f, w, h in ((mail, 860, 560), (article, 800, 600), (editor, 900, 620), (sheet, 800, 560), (chat, 380, 680), (shop, 760, 620), (settings, 400, 680), (terminal, 760, 560))],
    *[("train", "document", f, 620, 860) for f in (letter, paper, invoice, book)],
    *[("train", "chart", f, 560, 450) for f in (bars, lines, scatter, pie)],
    ("train", "comic", strip, 760, 480),
    *[("heldout", "screenshot", f, w, h) for f, w, h in ((calendar, 760, 520), (files, 760, 540), (forum, 640, 660), (player, 720, 600))],
    *[("heldout", "document", f, 620, 860) for f in (form, newspaper, receipt)],
    *[("heldout", "chart", f, 560, 450) for f in (areas, heat, boxes)],
    ("heldout", "comic", comic_page, 600, 720),
]


def rendered(out: Path, manifest: list[dict], work: Path):
    """(split, kind, layout, picture) of every page; comics and shops show the split's own clip-art."""
    work.mkdir(parents=True, exist_ok=True)
    jobs = []
    for split, kind, layout, w, h in LAYOUTS:
        cliparts = [out / m["name"] for m in manifest if m["split"] == split and m["kind"] == "clipart"]
        for number in range(EACH * (3 if kind == "comic" else 1)):
            jobs.append((split, kind, layout, w, h, Page(random.Random(f"{layout.__name__}/{number}"), split, cliparts)))
    for first in range(0, len(jobs), STACK):
        stack, top, parts, places = jobs[first:first + STACK], 0, [], []
        for number, (_, _, layout, w, h, page) in enumerate(stack):
            parts.append(f"<style>@font-face{{font-family:P{number};src:url({page.font})}}</style><div style='position:absolute;left:0;top:{top}px;width:{w}px;height:{h}px;overflow:hidden;background:{page.back};color:{page.ink};font-family:P{number}'>{layout(page)}</div>")
            places.append((0, top, w, top + h))
            top += h
        source, picture = work / "page.html", work / "page.png"
        source.write_text("<meta charset=utf-8><style>*{box-sizing:border-box}</style><body style='margin:0'>" + "".join(parts), encoding="utf-8")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--hide-scrollbars", f"--window-size=920,{top}", f"--screenshot={picture}", source.as_uri()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
        with Image.open(picture) as whole:
            for (split, kind, layout, *_), place in zip(stack, places):
                yield split, kind, layout.__name__, whole.convert("RGB").crop(place)
