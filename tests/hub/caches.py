"""A machine with the caches of both hubs, and what uses them there."""

import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stand_in import Revision, StandIn

ROOT = Path(__file__).resolve().parents[2]
NAME = "zai-org/glm-4v-9b"
# What is read of a model; the checkpoint's folder holds more, as a hub's does.
NEEDED = [
    "config.json",
    "generation_config.json",
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
    "model.safetensors.index.json",
    "tokenizer.model",
    "tokenizer_config.json",
]
SHARDS = [name for name in NEEDED if name.endswith("of-00003.safetensors")]


def checkpoint(name: str = "two-groups-bf16") -> Revision:
    folder = ROOT / "tests/data/checkpoints" / name
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return Revision(files | {"README.md": b"# A model\n", ".gitattributes": b""})


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        assert self.code == 0, self.err
        return Path(self.out.strip())


class Machine:
    """A user's machine: its caches, and programs that use them."""

    def __init__(self, binary: Path, world: StandIn, home: Path):
        self.binary, self.world, self.home = binary, world, home
        home.mkdir(exist_ok=True)

    @property
    def cache(self) -> Path:
        return self.home / "hf/hub"

    @property
    def scope(self) -> Path:
        return self.home / "ms"

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        hubs = ("HF_", "HUGGING", "MODELSCOPE_", "GLIMPSE_", "TRANSFORMERS_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(hubs) and not k.lower().endswith("_proxy")}
        own = {
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.world.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MODELSCOPE_CACHE": str(self.scope),
            "MODELSCOPE_ENDPOINT": self.world.url,
        }
        return inherited | own | more

    def start(self, *args: str, **more: str) -> subprocess.Popen:
        command = [str(self.binary), *args]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # What a shell runs in the background ignores Ctrl-C, and so would this.
        heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        return subprocess.Popen(command, env=self.environment(more), cwd=self.home, **pipes, **heeds)

    def glimpse(self, *args: str, **more: str) -> Result:
        process = self.start(*args, **more)
        out, err = process.communicate(timeout=300)
        return Result(process.returncode, out, err)

    def pull(self, name: str = NAME, **more: str) -> Result:
        return self.glimpse("pull", name, **more)

    def python(self, script: str, *args: str, **more: str) -> str:
        """Runs a script in which huggingface_hub is as the environment says, which it reads when it is imported."""
        command = [sys.executable, "-c", script, *args]
        done = subprocess.run(command, env=self.environment(more), cwd=self.home, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def download(self, name: str = NAME, revision: str = "main", **more: str) -> None:
        """What huggingface_hub makes of the same files."""
        script = """
import sys
from huggingface_hub import hf_hub_download
for file in sys.argv[3:]:
    hf_hub_download(sys.argv[1], file, revision=sys.argv[2])
"""
        self.python(script, name, revision, *NEEDED, **more)

    def incomplete(self) -> list[Path]:
        return sorted([*self.cache.rglob("*.incomplete"), *self.scope.rglob("*.incomplete")])

    def halves(self, *names: str) -> bool:
        """Whether of each of these shards just the half has come, which is where the stand-in lets an answer stand still."""
        for name in names:
            coming = self.cache / "models--zai-org--glm-4v-9b/blobs" / f"{checkpoint().etag(name)}.incomplete"
            if not coming.exists() or coming.stat().st_size != len(checkpoint().files[name]) // 2:
                return False
        return True


def tree(folder: Path) -> dict[str, tuple]:
    """All that lies in a folder: what it is, what it may, what is in it or where it leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder", mode)
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found


def share(machine, name=NAME):
    """Makes the store that Python makes by default: its large files move there, and links take their places."""
    script = """
import os, sys
from hashlib import sha256
from huggingface_hub.utils import _shared_blobs as shared
name, cache = sys.argv[1], os.path.join(os.environ["HF_HOME"], "hub")
blobs = os.path.join(cache, "models--" + name.replace("/", "--"), "blobs")
for etag in sorted(os.listdir(blobs)):
    path = os.path.join(blobs, etag)
    if len(etag) == 64 and not os.path.islink(path):
        size = os.path.getsize(path)
        hash = sha256(b"xet" + open(path, "rb").read()).hexdigest()
        assert shared.publish_blob_to_shared_store(blob_path=path, xet_hash=hash, cache_dir=cache, expected_size=size)
"""
    machine.python(script, name, HF_HUB_DISABLE_XET="0")


def whole(folder):
    return all((folder / name).read_bytes() == checkpoint().files[name] for name in NEEDED)


def refused(result, code):
    """One sentence with its code; what was told before it is about the way there."""
    assert result.code == 1 and not result.out
    last = result.err.strip().splitlines()[-1]
    assert last.startswith("glimpse: ") and last.endswith(f"[{code}]"), result.err
    assert "panicked" not in result.err
    return last
