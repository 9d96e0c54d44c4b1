"""Two builds side by side: one whose messages lack what came later and have something of their own, as an upgrade meets them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fleets import LONG, begin, expected, finished
from watching import TALKATIVE

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is in it?"
# Fields that the other build doesn't have; to it, whatever is sent of them is of a build to come.
LATER = {
    "server/api/src/command.rs": ["traceparent"],
    "server/api/src/event.rs": ["logprobs"],
    "server/api/src/health.rs": ["longest_turn_ms"],
    "server/cluster/src/message.rs": ["at_ms", "passes", "trouble", "traceparent"],
}


def without(text: str, name: str) -> str:
    """The field is neither written nor read."""
    text, times = re.subn(rf"#\[serde\(default[^\]]*\)\](\s+(?:pub )?{name}:)", r"#[serde(skip)]\1", text)
    assert times, name
    return text


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The other build's program: GLIMPSE_OTHER_BIN, or made of a copy of what is here."""
    if given := os.environ.get("GLIMPSE_OTHER_BIN"):
        return Path(given)
    copy = tmp_path_factory.mktemp("other")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for file in files.split("\0"):
        if (ROOT / file).is_file():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, copy / file)
    for file, names in LATER.items():
        text = (copy / file).read_text()
        for name in names:
            text = without(text, name)
        (copy / file).write_text(text)
    encoding = copy / "server/api/src/encoding.rs"
    text = encoding.read_text()
    for old, new in (("    message: &'a T,", "    message: &'a T,\n    news: &'a str,"), ("{ version, message }", '{ version, message, news: "" }')):
        assert text.count(old) == 1
        text = text.replace(old, new)
    encoding.write_text(text)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "other"
    build = ["cargo", "build", "--locked", "--release", "-p", "glimpse", "--no-default-features", "--features", "cluster,demo"]
    subprocess.run(build, cwd=copy, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True)
    return target / "release/glimpse"


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ours_first", [True, False])
def test_an_answer_goes_through_both(other, binary, fleet, alone, connect, scene, ours_first):
    """From a gateway of one build by a worker of the other's, through a gateway and then a worker of the build that each was not."""
    one, two = (binary, other) if ours_first else (other, binary)
    fleet.serve_nats()
    fleet.binary = one
    before = fleet.gateway(wait=False)
    fleet.binary = two
    first, after = fleet.worker("first", *TALKATIVE), fleet.gateway()
    fleet.wait_ready(before)
    client = begin(connect, before, scene(), QUESTION, **LONG)
    before.kill()
    client.url = after.ws
    assert client.resume()["resumed"] is True
    client.until("token")
    fleet.binary = one
    fleet.worker("second", *TALKATIVE)
    first.kill()
    assert finished(client) == expected(connect, alone, scene(), QUESTION, **LONG)
    assert client.moving
    # And a whole one at once, with what only one of them knows.
    client.ask("b", QUESTION, conversation=client.of("a")[0]["conversation"], traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    assert client.done("b")["usage"]["image_tokens"] > 0
    for process in fleet.running:
        assert "no message" not in process.said() and "panicked" not in process.said(), fleet.logs()
