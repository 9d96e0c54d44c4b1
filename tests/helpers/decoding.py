"""Decoder processes seen from outside, and pictures that keep them busy."""

import contextlib
import io
import os
from pathlib import Path

from PIL import Image, ImageFile
from watching import metrics

MIB = 1 << 20
# Pillow writes a progressive JPEG from one buffer, which is too small for noise by itself.
ImageFile.MAXBLOCK = 64 * MIB


def children(pid: int) -> list[int]:
    """The server's decoder processes."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        # A thread may end while one looks at them.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, task.read_text().split())
    return sorted(found)


def peak_of(pid: int) -> int:
    """The most bytes that a process ever had resident."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def decodes(server, key: str | None = None) -> dict[str, float]:
    """How many pictures wait to be decoded, and how many are."""
    now = metrics(server, key)
    return {state: now[f'glimpse_decodes{{state="{state}"}}'] for state in ("waiting", "running")}


def idle(server) -> bool:
    return not any(decodes(server).values())


def either(client, *kinds: str) -> dict:
    """The next message of one of these kinds."""
    while (message := client.recv(120))["type"] not in kinds:
        pass
    return message


def slow_jpeg(side: int) -> bytes:
    """A progressive JPEG of noise: as much work as its pixels may be."""
    noise = Image.frombytes("RGB", (side, side), os.urandom(side * side * 3))
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=95, progressive=True, subsampling=0)
    return out.getvalue()


def hog(side: int) -> bytes:
    """A GIF of a few frames with nothing on them: little to send, and as much memory as its sides ask for."""
    blank = Image.new("P", (side, side), 0)
    blank.putpalette([0, 0, 0] * 256)
    out = io.BytesIO()
    blank.save(out, "GIF", transparency=0)
    file = out.getvalue()
    header = 13 + 3 * (2 << (file[10] & 7)) * bool(file[10] & 0x80)
    frame = file[header:-1]
    return file[:header] + frame * 4 + b";"
