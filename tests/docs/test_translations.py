"""Each document that has a Chinese twin says the same in both: part for part the same commands, flags, figures and links.

Whether the words mean the same, no test can tell; that one was changed and the other forgotten, these mostly do.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "scripts/figures.zh.sed"
TWINS = {path.with_name(path.name.replace(".zh.md", ".md")): path for path in (*ROOT.glob("*.zh.md"), *ROOT.glob("docs/*.zh.md"))}

MARKED = re.compile(r"^<!-- figures -->\n(.*)^<!-- /figures -->\n", re.M | re.S)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FLAG = re.compile(r"--[a-z][a-z-]*")
NUMBER = r"(?<![A-Za-z0-9_.-])\d+(?:[.,]\d+)*"
WORDS = re.compile(r"[A-Za-z]{2,}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# How each is written: in both languages, in English, in Chinese.
UNITS = {
    "ms": "ms|milliseconds?|毫秒", "s": "s|seconds?|秒", "min": "min|minutes?|分钟", "h": "h|hours?|小时", "bytes": "bytes?|字节",
    "bit": "bits?|位", "cores": "cores?|核", "%": "%", "×": "×", **{unit: unit for unit in "KB MB GB TB KiB MiB GiB W px".split()},
}
MANY = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "万": 1e4, "亿": 1e8}
# What begins a remark in a block of this language; elsewhere what stands behind two spaces is one.
REMARK = dict.fromkeys(("sh", "ini", "nginx", "caddy", "python"), r"(^|\s+)#.*$")


def parts(text):
    """The document part by part: its kind, and what of it is code and what is not."""
    for piece in re.split(r"(^```.*?^```$)", MARKED.sub("", text), flags=re.M | re.S):
        if fence := FENCE.fullmatch(piece):
            language, code = fence.groups()
            remark = re.compile(REMARK.get(language, r"\s{2,}.*$"), re.M)
            yield f"block of {language}", remark.sub("", code), "\n".join(match[0] for match in remark.finditer(code))
            continue
        for block in filter(None, map(str.strip, re.split(r"\n\s*\n", piece))):
            if heading := re.match(r"#+ ", block):
                yield f"heading {heading[0]}", "", block
            elif block.startswith("|"):
                for row in block.splitlines():
                    cells = row.strip().strip("|").split("|")
                    yield from ((f"cell {place} of {len(cells)}", "", cell) for place, cell in enumerate(cells, 1))
            else:
                for item in re.split(r"^(?=\s*(?:[-*]|\d+\.) )", block, flags=re.M):
                    if item:
                        yield "item" if re.match(r"\s*(?:[-*]|\d+\.) ", item) else "paragraph", "", item


def figures(prose):
    """The numbers in words, with what they count where that has a sign."""
    many = "|".join(MANY)
    for match in re.finditer(rf"({NUMBER})\s?-?({many})?\s?((?:{'|'.join(UNITS.values())})(?![A-Za-z]))?", prose):
        number = float(match[1].replace(",", "")) * MANY.get(match[2], 1) if match[1].count(".") < 2 else match[1]
        yield number, next((unit for unit, written in UNITS.items() if match[3] and re.fullmatch(written, match[3])), None)


def facts(kind, code, words):
    """What both have to have."""
    prose = LINK.sub(r"\2", SPAN.sub(" ", words))
    return {
        "kind": kind,
        "code": code,
        "in code": Counter(SPAN.findall(words)),
        "flags": Counter(FLAG.findall(code + words)),
        "figures": Counter(figures(prose)),
        "links": Counter((image, target.replace(".zh.md", ".md")) for image, _, target in LINK.findall(words)),
    }


def differences(english, chinese):
    """What the two have not alike, in sentences."""
    ours, theirs = list(parts(english)), list(parts(chinese))
    for one, other in zip(ours, theirs):
        here, there = facts(*one), facts(*other)
        for what in here:
            if here[what] != there[what]:
                yield f"{what}: {here[what]!r} became {there[what]!r} in {other[2] or other[1]!r}"
        if here["kind"] != there["kind"]:
            return  # What follows is shifted.
        said = WORDS.findall(LINK.sub(r"\2", SPAN.sub(" ", one[2])))
        if len(said) > 4 and not CHINESE.search(other[2]):
            yield f"not translated: {other[2]!r}"
    if len(ours) != len(theirs):
        yield f"{len(ours)} parts became {len(theirs)}: {[kind for kind, *_ in ours]} and {[kind for kind, *_ in theirs]}"


def in_chinese(block):
    """A block of figures as scripts/figures.sh translates it."""
    return subprocess.run(["sed", "-E", "-f", FIGURES], input=block, capture_output=True, text=True, check=True).stdout


def texts(name):
    english = ROOT / name
    return english.read_text(), TWINS[english].read_text()


def test_these_have_twins():
    assert {"README.md", "docs/operations.md"} <= {str(english.relative_to(ROOT)) for english in TWINS}


@pytest.mark.parametrize("name", sorted(str(english.relative_to(ROOT)) for english in TWINS))
def test_both_say_the_same(name):
    assert list(differences(*texts(name))) == []
    english, chinese = texts(name)
    # Each leads to the other at its top.
    assert f"]({Path(name).with_suffix('.zh.md').name})" in english[:200] and f"]({Path(name).name})" in chinese[:200]


def test_the_figures_are_the_same():
    english, chinese = (MARKED.search(text)[1] for text in texts("README.md"))
    assert in_chinese(english) == chinese
    # And none of it is left as it was.
    rows = [line for line in english.splitlines() if line and not line.startswith("|--")]
    assert len(rows) > 10 and not set(rows) & set(chinese.splitlines())


@pytest.mark.parametrize("name, old, new", [
    ("README.md", "172 ms", "171 ms"),
    ("README.md", "172 ms", "172 s"),
    ("README.md", "1200 万", "1200"),
    ("README.md", "25.9 GiB", "25.9 GB"),
    ("README.md", "--rate", "--speed"),
    ("README.md", "--quantize q4 --out", "--quantize q8 --out"),
    ("README.md", "--json 给出", "给出"),
    ("README.md", "`--api-key-file`", "密钥文件"),
    ("README.md", "docs/security.md)", "docs/operations.md)"),
    ("README.md", "docs/glimpse.gif", "docs/other.png"),
    ("README.md", "## 许可证", "### 许可证"),
    ("README.md", "fuzz/      ", "tests/     "),
    ("README.md", "| f32，CPU | 51.8 GiB |\n", ""),
    ("README.md", "make test      #", "make lint      #"),
    ("README.md", "| 191 | 100 |", "| 192 | 100 |"),
    ("docs/operations.md", "（4401）", ""),
    ("docs/operations.md", "90s", "60s"),
    ("docs/operations.md", "| 75 |", "| 74 |"),
    ("docs/operations.md", "`/readyz` 就绪", "`/healthz` 就绪"),
    ("docs/operations.md", "写盘的只有日志。写不进去的行就丢弃，服务照常。", "Only the log is written, and serving goes on."),
    ("docs/operations.md", "\n\nnginx，写入", "\n\n还有一段。\n\nnginx，写入"),
])
def test_what_drifts_is_found(name, old, new):
    english, chinese = texts(name)
    if name == "README.md" and old in MARKED.search(chinese)[1]:
        assert in_chinese(MARKED.search(english)[1]) != MARKED.search(chinese.replace(old, new, 1))[1]
        return
    assert old in chinese
    assert list(differences(english, chinese.replace(old, new, 1)))
