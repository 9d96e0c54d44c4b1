"""The walls between the crates and within the page, and the check that finds circles between folders."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def links(package, *features):
    """The packages that a package of ours is linked with, its own name left out."""
    command = ["cargo", "tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}", *features]
    tree = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in tree.splitlines() if line} - {package}


# What each may know of ours: whatever is below it.
BELOW = {
    "api": [],
    "image": ["api", "color", "metadata"],
    "model": ["api"],
    "hub": [],
    "policy": ["api"],
    "engine": ["api", "model", "policy"],
    "simulation": ["api", "engine", "model", "policy"],
    "gateway": ["api", "color", "image", "metadata", "policy", "wire"],
    "client": ["api", "wire"],
    "cluster": ["api", "policy"],
    "bench": ["api", "client", "color", "gateway", "image", "metadata", "model", "policy", "wire"],
}


@pytest.mark.parametrize("crate", BELOW)
def test_a_crate_knows_only_what_is_below_it(crate):
    known = {name.removeprefix("glimpse-") for name in links(f"glimpse-{crate}") if name.startswith("glimpse")}
    assert known == set(BELOW[crate])


def test_the_gateway_links_no_model_and_the_model_no_server_and_a_client_neither():
    gateway, model, client = links("glimpse-gateway"), links("glimpse-model"), links("glimpse-client")
    assert not [name for name in gateway | client if name.startswith(("candle", "cuda", "tokenizers"))]
    assert not [name for name in model if name.startswith(("actix", "tokio", "clap"))]
    assert not [name for name in client if name.startswith("actix")]
    # The names are those of today.
    assert {"actix-web", "tokio"} <= gateway and {"candle-core", "tokenizers"} <= model


def test_the_second_opinion_is_the_tests_alone():
    assert "candle-transformers" in links("glimpse-tests") and "candle-transformers" not in links("glimpse")


# What each folder of the page knows of the others.
PAGE = {"core": [], "worker": [], "io": ["core", "worker"], "view": ["core", "io"]}


def test_a_folder_of_the_page_knows_only_what_is_below_it():
    sys.path.insert(0, str(ROOT / "scripts"))
    from circles import Crate

    source = ROOT / "frontend/src"
    folder = lambda file: file.relative_to(source).parts[0]
    arrows = {(folder(a), folder(b)) for a, b in Crate(ROOT / "frontend").arrows()}
    known = {name: sorted(b for a, b in arrows if a == name and b in PAGE and b != name) for name in PAGE}
    assert known == PAGE


def test_the_pages_core_knows_no_browser():
    for file in (ROOT / "frontend/src/core").rglob("*.rs"):
        assert not re.search(r"\b(web_sys|js_sys|wasm_bindgen|leptos)\b", file.read_text()), file


def circles(crate, *options):
    return subprocess.run([sys.executable, ROOT / "scripts/circles.py", *options, crate], capture_output=True, text=True)


def write(crate, files):
    for name, text in files.items():
        file = crate / "src" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return crate


CIRCLE = {
    "lib.rs": "mod low;\nmod high;\npub use high::Top;\n",
    "low.rs": "use crate::Top;\npub struct Bottom(Top);\n",
    "high/mod.rs": "mod inner;\npub use inner::Top;\n",
    "high/inner.rs": "pub struct Top;\nfn f() { crate::low::g(); }\n",
}


def test_a_circle_between_folders_is_found_through_what_is_handed_on(tmp_path):
    found = circles(write(tmp_path, CIRCLE))
    assert found.returncode == 1
    assert "src/high/inner.rs -> src/low.rs: g" in found.stdout and "src/low.rs -> src/high/inner.rs: Top" in found.stdout


def test_where_there_must_be_none_a_circle_within_a_folder_is_found_too(tmp_path):
    crate = write(tmp_path, {
        "lib.rs": "mod high;\n",
        "high/mod.rs": "mod a;\nmod b;\npub use a::A;\n",
        "high/a.rs": "pub struct A(super::b::B);\n",
        "high/b.rs": "use super::A;\npub struct B;\n",
    })
    assert circles(crate).returncode == 0
    found = circles(crate, "--strict", "high")
    assert found.returncode == 1 and "src/high/b.rs -> src/high/a.rs: A" in found.stdout


@pytest.mark.parametrize("changed", [
    # In one folder they may.
    {"lib.rs": "mod low;\nmod inner;\nuse inner::Top;\n", "inner.rs": "pub struct Top;\nfn f() { crate::low::g(); }\n"},
    # What looks like code, what only tests have.
    {"high/inner.rs": "pub struct Top; // crate::low::g()\nconst S: &str = \"crate::low::g()\";\n"},
    {"high/inner.rs": "pub struct Top;\n#[cfg(test)]\nmod tests {\n    use crate::low::g;\n}\n"},
])
def test_what_is_no_circle_is_none(tmp_path, changed):
    found = circles(write(tmp_path, {**CIRCLE, **changed}))
    assert (found.returncode, found.stdout) == (0, ""), found.stdout
