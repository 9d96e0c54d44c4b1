"""A public vocabulary of the published one's size (151,643 ranks) gives tiktoken's ids, and loads in a second.

It is the `qwen.tiktoken` inside PyPI's `dashscope`, fetched through pip once, into the cargo target folder.
"""

import base64
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import unicodedata
import zipfile

import pytest
import tiktoken

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from corpus import SPECIAL_TOKENS, SPLIT_PATTERN, TEXTS, random_texts

ROOT = pathlib.Path(__file__).parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PACKAGE = "dashscope==2.0.2"
MEMBER = "dashscope/resources/qwen.tiktoken"
SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
LOAD_LIMIT_S = 1.0


@pytest.fixture(scope="module")
def vocabulary():
    path = TARGET / "test-data" / "qwen.tiktoken"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            subprocess.run(pip, check=True)
            with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:
                content = wheel.read(MEMBER)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_bytes(content)
        partial.rename(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256, f"{path} is another file: delete it"
    return path


@pytest.fixture(scope="module")
def reference(vocabulary):
    lines = vocabulary.read_bytes().split(b"\n")
    ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in lines if line)}
    return tiktoken.Encoding("real", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})


@pytest.fixture(scope="module")
def tokenize(vocabulary, reference, tmp_path_factory):
    """Runs our tokenizer over texts, through the example that prints what it does as JSON."""
    program = TARGET / "release" / "examples" / "tokenize"
    build = ["cargo", "build", "--locked", "--release", "--package", "glimpse-model", "--example", "tokenize"]
    subprocess.run(build, check=True, cwd=ROOT)
    folder = tmp_path_factory.mktemp("published")
    (folder / "tokenizer.model").symlink_to(vocabulary)
    specials = {str(reference.n_vocab + i): {"content": name} for i, name in enumerate(SPECIAL_TOKENS)}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": specials}))

    def run(texts):
        done = subprocess.run([program, folder], input=json.dumps(texts).encode(), capture_output=True, check=True)
        return json.loads(done.stdout)

    return run


def assert_agrees(tokenize, reference, texts):
    ours = tokenize(texts)["ids"]
    assert len(ours) == len(texts)
    for text, ids in zip(texts, ours):
        assert ids == reference.encode_ordinary(text), repr(text)


def test_loads_in_a_second(tokenize):
    """By the processor's time, all threads together: what else the machine does must not count."""
    def spent():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    by_the_clock = tokenize([])["load_ms"]
    seconds = spent() - before
    print(f"{seconds:.2f} s of processor time, {by_the_clock / 1e3:.2f} s by the clock")
    assert seconds <= LOAD_LIMIT_S


def test_corpus(tokenize, reference):
    assert_agrees(tokenize, reference, TEXTS)


def test_random_texts(tokenize, reference):
    assert_agrees(tokenize, reference, list(random_texts(10_000, seed=3)))


def test_every_character(tokenize, reference):
    """The split pattern's classes agree on all of Unicode: every character, and a sample of the unassigned ones."""
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    every = [c for c in every if unicodedata.category(c) not in ("Cn", "Co") or ord(c) % 64 == 0]
    texts = ["".join(f"a{c}1{c}{c}!'{c}\n" for c in every[i:i + 64]) for i in range(0, len(every), 64)]
    assert_agrees(tokenize, reference, texts)


def test_every_token_is_itself(tokenize, reference):
    """Each token's own text, where it is text: the whole piece wins."""
    values = (reference.decode_single_token_bytes(i) for i in range(reference.n_vocab))
    texts = []
    for value in values:
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            pass
    assert len(texts) > 140_000
    assert_agrees(tokenize, reference, texts)
