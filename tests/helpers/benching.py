"""What commands that measure a fleet share, which run without pytest. GLIMPSE_BIN is the binary."""

import importlib.util
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from fleets import Fleet
from programs import ROOT
from watching import TALKATIVE

_spec = importlib.util.spec_from_file_location("client", ROOT / "tests/socket/conftest.py")
client = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(client)


def arguments() -> tuple[list[str], list[str]]:
    """The command's own, and behind ` -- ` those of each worker: without any, random weights of the demo's shape on one thread."""
    own, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    return own.split(), flags.split() or [*TALKATIVE, "--threads", "1"]


@contextmanager
def measuring():
    """A fleet that ends with what is measured on it; where that fails, what it has logged last is told."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(os.environ["GLIMPSE_BIN"]), Path(folder))
        try:
            yield fleet
        except BaseException:
            print(fleet.logs()[-4000:], file=sys.stderr)
            raise
        finally:
            fleet.end()
