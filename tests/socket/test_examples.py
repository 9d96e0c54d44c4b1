"""The examples for strangers, run as their README says."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from watching import PATIENCE

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
PICTURE = ROOT / "public/samples/animals.jpg"
QUESTION = "How many cats are there?"


@pytest.fixture(scope="module")
def answer(binary):
    """What the server answers, greedy or not: the demo's own settings are greedy."""
    result = subprocess.run(
        [binary, "generate", "--image", PICTURE, "--prompt", QUESTION, "--greedy"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def run(*command, timeout: float = PATIENCE, **environment) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout, env=os.environ | environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def large(tmp_path) -> Path:
    """The same picture in a file of more than a window, so that the client has to wait for progress."""
    path = tmp_path / "large.jpg"
    path.write_bytes(PICTURE.read_bytes() + bytes(3_000_000))
    return path


def test_python(server, answer, tmp_path):
    for picture in (PICTURE, large(tmp_path)):
        assert run(sys.executable, EXAMPLES / "python/ask.py", picture, QUESTION, server.ws) == answer


def node() -> list:
    """Node with a WebSocket: from 22 on as it is, before behind a flag; failing that, none."""
    program = shutil.which("node")
    for flags in ([], ["--experimental-websocket"]):
        if program:
            check = [program, *flags, "-e", "process.exit(globalThis.WebSocket ? 0 : 1)"]
            if subprocess.run(check, capture_output=True).returncode == 0:
                return [program, *flags]
    return []


def test_node(server, answer, tmp_path):
    command, folder = node(), EXAMPLES / "javascript"
    if not command:
        # As its README says: with `ws`, which is looked for beside the file.
        if not (shutil.which("node") and shutil.which("npm")):
            pytest.skip("there is no Node here")
        folder = Path(shutil.copytree(folder, tmp_path / "javascript"))
        npm = [shutil.which("npm"), "install", "--prefix", folder, "--no-save", "--no-audit", "--no-fund", "ws@8.18.3"]
        run(*npm)
        command = [shutil.which("node")]
    for picture in (PICTURE, large(tmp_path)):
        assert run(*command, folder / "ask.mjs", picture, QUESTION, server.ws) == answer


@pytest.mark.timeout(1200)
def test_rust(server, answer, tmp_path):
    """Built by `cargo test`, as every example of the workspace."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = target / "release/examples/ask"
    if not program.is_file():
        cargo = ("cargo", "build", "--locked", "--release", "--manifest-path", ROOT / "Cargo.toml")
        run(*cargo, "-p", "glimpse-wire", "--example", "ask", timeout=1000)
    for picture in (PICTURE, large(tmp_path)):
        assert run(program, picture, QUESTION, server.ws) == answer


# What of websocat 1 the script uses, for where that is not installed.
STAND_IN = '''
import base64, sys, threading
from websockets.sync.client import connect
expected = ["--no-close", "--buffer-size", "131072", "--text-prefix", "T", "--binary-prefix", "B", "--base64",
            "--protocol", "glimpse.v1"]
assert sys.argv[1:-1] == expected, sys.argv
with connect(sys.argv[-1], subprotocols=["glimpse.v1"]) as socket:
    def say():
        for line in sys.stdin:
            line = line.rstrip("\\n")
            socket.send(line[1:] if line[0] == "T" else base64.b64decode(line[1:]))
    threading.Thread(target=say, daemon=True).start()
    for message in socket:
        print("T" + message, flush=True)
'''


def test_websocat(server, answer, tmp_path):
    path = os.environ["PATH"]
    if shutil.which("websocat") is None:
        program = tmp_path / "websocat"
        program.write_text(f"#!{sys.executable}{STAND_IN}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        path = f"{tmp_path}:{path}"
    for arguments in ([QUESTION, PICTURE], ['Say "hello" \\ back']):
        said = run(EXAMPLES / "websocat.sh", *arguments, GLIMPSE_URL=server.ws, PATH=path)
        messages = [json.loads(line) for line in said.splitlines()]
        assert messages[0]["type"] == "welcome" and messages[-1]["type"] == "done"
        if len(arguments) == 2:
            assert "".join(m["text"] for m in messages if m["type"] == "token").strip() == answer
