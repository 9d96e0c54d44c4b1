"""What documents lead to is there: text about code that has moved on misleads more than none."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Whose paths are from the repository's root.
GUIDES = ("docs/architecture.md", "docs/operations.md", "CONTRIBUTING.md")
DOCUMENTS = sorted(path.relative_to(ROOT) for folder in (".", "docs", "examples", "models/demo/train", "tests/reference")
                   for path in (ROOT / folder).glob("*.md"))

FENCE = re.compile(r"(^ *```.*?^ *```$)", re.M | re.S)
CODE = re.compile(FENCE.pattern + r"|(`[^`\n]+`)", re.M | re.S)
PATH = re.compile(r"\.?\w[\w.-]*(/[\w.*-]+)*/?")
ENDINGS = tuple(".css .cu .cuh .html .js .json .lock .md .mjs .py .rs .sh .toml .yaml".split())
# Whose models are named, which look like paths.
OWNERS = ("zai-org/", "THUDM/", "ZhipuAI/")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def codes(text):
    """The fences and the spans of code."""
    return [match[0] for match in CODE.finditer(text)]


def paths(code):
    """Those that are named in a piece of code. What begins with a slash is an address or lies outside; see `found` for `NAME`."""
    words = re.split(r"[\s`\"'()=;|]+", re.sub(r"<[^>]+>", " ", code))
    words = [word.rstrip(".,:") for word in words if PATH.fullmatch(word.rstrip(".,:")) and not word.startswith(OWNERS)]
    return [word for word in words if "/" in word or word.endswith(ENDINGS) and word not in ENDINGS]


def blocks(text):
    """Fences, paragraphs, items of lists and rows of tables, these with their table's head."""
    for part in FENCE.split(text):
        if part.lstrip().startswith("```"):
            yield part
            continue
        for block in re.split(r"\n\s*\n", part):
            head, *rows = block.strip().splitlines() or [""]
            if head.startswith("|"):
                yield from (f"{head}\n{row}" for row in rows)
            else:
                yield from re.split(r"^(?=\s*(?:[-*]|\d+\.) )", block, flags=re.M)


def found(path, folders, root):
    """From the root, or from one of these folders; a part in capitals stands for any name."""
    pattern = "/".join("*" if re.fullmatch(r"[A-Z]{2,}", part) else part for part in path.strip("/").split("/"))
    return [match for base in (root, *folders) for match in base.glob(pattern) if match.is_dir() or not path.endswith("/")]


def made(path, root):
    """Whether it is made by what is in the repository."""
    ignored = [line.strip("/") for line in (root / ".gitignore").read_text().split()]
    steps = path.strip("/").split("/")
    return any(fnmatch("/".join(steps[:end]), pattern) for pattern in ignored for end in range(1, len(steps) + 1))


def missing(text, root=ROOT):
    """The paths in code that lead nowhere. A name without its folder has to lie in one that its block names before."""
    gone = []
    for block in blocks(text):
        folders = []
        for path in (path for code in codes(block) for path in paths(code)):
            matches = found(path, folders, root)
            if not matches and not made(path, root):
                gone.append(path)
            folders += [match if match.is_dir() else match.parent for match in matches if "/" in path]
    return gone


@pytest.mark.parametrize("name", GUIDES)
def test_every_path_that_a_guide_names_exists(name):
    text = (ROOT / name).read_text()
    assert sum(len(paths(code)) for code in codes(text)) > 20
    assert missing(text) == []


def test_a_path_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file.rs").touch()
    (tmp_path / ".gitignore").write_text("/target\n/.venv*\n")
    for good in ("`a/b/` has `file.rs`", "`a/b/file.rs`", "| `a/b/` |\n|---|\n| `file.rs` |", "`a/ANY/file.rs`, `a/*/*.rs`",
                 "`target/release/glimpse`", "`.venv/bin/python -m pytest a/b -k c`", "`/metrics`, `--a-b`, `http://a/c.md`, `a::b`",
                 "```mermaid\na[\"<b>a</b><br>b\"]\n```"):
        assert missing(good, tmp_path) == [], good
    for bad, gone in (("`a/c/`", "a/c/"), ("`file.rs`", "file.rs"), ("`a/b/`\n\n`file.rs`", "file.rs"), ("- `a/b/`\n- `file.rs`", "file.rs"),
                      ("`file.rs` of `a/b/`", "file.rs"), ("`a/b/file.rs/`", "a/b/file.rs/"), ("```sh\nless a/d.md\n```", "a/d.md"),
                      ("| `a/b/` |\n|---|\n| `other.rs` |", "other.rs")):
        assert missing(bad, tmp_path) == [gone], bad


def anchors(text):
    """The names that a document's headings have."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_within_the_repository_lead_somewhere(document):
    text = CODE.sub("", (ROOT / document).read_text())
    for link in LINK.findall(text):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (ROOT / document).parent / place if place else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link
