"""The snippets in the documents run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def snippets():
    for name in ("docs/http.md", "README.md"):
        blocks = re.findall(r"^```(python|sh)\n(.*?)^```", (ROOT / name).read_text(), re.M | re.S)
        for number, (kind, code) in enumerate(blocks):
            if "/v1" not in code:
                continue
            yield pytest.param(kind, code, id=f"{name}-{number}")


@pytest.mark.parametrize(("kind", "code"), list(snippets()))
def test_a_snippet_runs(server, kind, code):
    code = code.replace("http://127.0.0.1:8080", server.url)
    program = [sys.executable, "-c"] if kind == "python" else ["bash", "-euc"]
    done = subprocess.run([*program, code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip()
    # What a small demo makes of a schema that it has never seen is another matter.
    assert said and (said == "3" or "animals.jpg" not in code or "json_schema" in code), said
