"""Programs that tests run beside Glimpse."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> str:
    """Where one lies: on the PATH, among the project's own tools, or where Debian puts it."""
    tools = os.environ.get("GLIMPSE_TOOLS", ROOT / ".tools")
    path = os.pathsep.join([os.environ["PATH"], f"{tools}/bin", "/usr/sbin"])
    return shutil.which(name, path=path) or pytest.fail(f"there is no {name} here: run `make test`, which fetches it")
