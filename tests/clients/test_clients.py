"""Clients that were written for OpenAI's API by others: each sends a picture, has the answer streamed and goes on asking.

OpenAI's own for Python and LangChain's are in tests/api and the documents' snippets. Those marked `clients` take a while
to install or to build, and run in `make test-clients` alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asking import picture

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@pytest.fixture
def circles(tmp_path) -> Path:
    path = tmp_path / "circles.jpg"
    path.write_bytes(picture(3, "red"))
    return path


def run(*command, timeout: int = 300, **options) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def holds(told: dict) -> None:
    """The answers are right, the stream came in pieces, and the second question found the first in the cache."""
    assert "circle" in told["answer"].lower()
    assert "".join(told["pieces"]) == told["answer"] and len(told["pieces"]) > 1
    assert "3" in told["next"]
    assert told["cached"] > 100


def test_openai_for_node(server, circles, tmp_path):
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no Node here")
    # A library is looked for beside the program.
    program = shutil.copy(HERE / "node.mjs", tmp_path)
    run("npm", "install", "--prefix", tmp_path, "--no-save", "--no-audit", "--no-fund", "openai@7.59.0")
    holds(json.loads(run("node", program, server.url, circles)))


def test_the_llm_command_line(server, circles, tmp_path):
    """As docs/http.md sets it up and uses it."""
    document = (ROOT / "docs/http.md").read_text()
    (models,) = re.findall(r"^```yaml\n(.*?)^```", document, re.M | re.S)
    (used,) = re.findall(r"^```sh\n(llm .*?)^```", document, re.M | re.S)
    (tmp_path / "extra-openai-models.yaml").write_text(models.replace("http://127.0.0.1:8080", server.url))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "PATH": path}

    def llm(*words) -> str:
        return run("llm", *words, env=environment)

    # It streams unless it is told not to.
    said = run("bash", "-euc", used, cwd=ROOT, env=environment).split("\n")
    assert said[:2] == ["3", "1"]
    last, _ = json.loads(llm("logs", "-n", "2", "--json"))
    assert json.loads(last["token_details"])["prompt_tokens_details"]["cached_tokens"] > 100
    asked = ("-m", "glimpse", "-o", "temperature", "0", "-a", circles)
    assert "3" in llm(*asked, "--no-stream", "How many circles are there?")
    # Bounded: what a small demo makes of a number without end may have none.
    count = {"type": "integer", "minimum": 0, "maximum": 9}
    schema = {"type": "object", "properties": {"count": count}, "required": ["count"], "additionalProperties": False}
    shaped = llm(*asked, "--schema", json.dumps(schema), "How many circles are there?")
    assert isinstance(json.loads(shaped)["count"], int)


@pytest.mark.clients
def test_litellm(server, circles):
    python = ROOT / ".venv-clients/bin/python"
    holds(json.loads(run(python, HERE / "with_litellm.py", server.url, circles)))


@pytest.mark.clients
@pytest.mark.timeout(1200)
def test_async_openai(server, circles):
    folder = HERE / "async-openai"
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "clients"
    run("cargo", "build", "--locked", "--release", "--target-dir", target, cwd=folder, timeout=1000)
    holds(json.loads(run(target / "release/glimpse-client-async-openai", server.url, circles)))
