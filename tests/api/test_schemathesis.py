"""`/openapi.json` in the hands of Schemathesis, which asks whatever the document lets it ask, and what it doesn't."""

import re
import subprocess
from pathlib import Path
from sys import executable

import pytest

# What must hold of every answer, whatever was asked.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


def cases(serve, folder: Path, phases: str, most: int) -> int:
    """Has it make at most so many cases of each operation in a phase; how many it made in all."""
    # What is understood is answered: shortly.
    server = serve("--max-new-tokens", "8")
    server.wait_ready()
    program = Path(executable).with_name("st")
    flags = (
        *("--checks", ",".join(CHECKS), "--phases", phases, "--max-examples", str(most), "--seed", "1", "--no-color"),
        *("--generation-database", "none", "--continue-on-failure", "--suppress-health-check", "all"),
    )
    command = [program, "run", f"{server.url}/openapi.json", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = re.findall(r"(\d+) generated, \1 passed", done.stdout)
    return int(made)


def test_a_few_cases(serve, tmp_path):
    assert cases(serve, tmp_path, "fuzzing", 40) > 80


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_more_than_two_thousand_cases(serve, tmp_path):
    assert cases(serve, tmp_path, "examples,coverage,fuzzing", 1200) > 2000
