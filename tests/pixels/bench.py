#!/usr/bin/env python3
"""From a JPEG's bytes to normalised floats: this project and Pillow + torchvision side by side, round by round, on one core.

    cargo build --release -p glimpse --example pixels_bench
    .venv/bin/pip install -r tests/pixels/requirements.txt torch torchvision
    .venv/bin/python tests/pixels/bench.py [--size 1120] [--rounds 15]

Without torchvision its two steps (to_tensor, normalize) are done in numpy, and the report says so.
"""
import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

try:
    import torch
    from torchvision import transforms
except ImportError:
    torch = None

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
BINARY = Path(__file__).parents[2] / "target/release/examples/pixels_bench"


def photo(width, height):
    """A picture with a photo's mix of shades, edges and fine grain; the same every time."""
    rng = np.random.default_rng(3)
    layers = [(8, 90), (40, 45), (160, 25)]
    out = np.full((height, width, 3), 128.0, np.float32)
    for cells, strength in layers:
        grid = rng.normal(0, strength, (max(2, cells * height // width), cells, 3)).clip(-2 * strength, 2 * strength)
        for c in range(3):
            layer = Image.fromarray(grid[..., c].astype(np.float32))
            out[..., c] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    out += rng.normal(0, 5, (height, width, 1)).astype(np.float32)
    return Image.fromarray(out.clip(0, 255).astype(np.uint8))


def jpeg(image, megabytes):
    """At the quality that comes closest to a size from above."""
    for quality in range(60, 100):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        if out.tell() >= megabytes * 1e6:
            break
    return out.getvalue(), quality


def pillow(data, size, normalize):
    times = [time.perf_counter()]
    image = Image.open(io.BytesIO(data)).convert("RGB")
    times.append(time.perf_counter())
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    times.append(time.perf_counter())
    normalize(image)
    times.append(time.perf_counter())
    decode, resize, floats = (1e3 * (b - a) for a, b in zip(times, times[1:]))
    return {"decode": decode, "after": resize + floats, "total": decode + resize + floats}, image


def in_numpy(image):
    array = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return (array - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--size", type=int, default=1120)
    args.add_argument("--rounds", type=int, default=15)
    args = args.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: cargo build --release -p glimpse --example pixels_bench")

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, for the child too
    # Beside other work on the machine the fastest round is the one least disturbed.
    normalize, other = in_numpy, "Pillow + numpy"
    if torch:
        torch.set_num_threads(1)
        normalize, other = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)]), "Pillow + torchvision"
    ours = subprocess.Popen([BINARY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    print(f"size {args.size}, {args.rounds} rounds, the fastest in ms; {other}")
    print(f"{'picture':24} {'':10} {'decode':>8} {'after':>8} {'total':>8}")
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder, "photo.jpg"), Path(folder, "out")
        for width, height, megabytes in [(1920, 1080, 1.2), (4000, 3000, 5), (8000, 6000, 14)]:
            data, quality = jpeg(photo(width, height), megabytes)
            file.write_bytes(data)
            runs = {"theirs": [], "libjpeg": [], "raw": [], "kind": []}
            pixels = {}
            for round in range(args.rounds + 1):
                times, image = pillow(data, args.size, normalize)
                runs["theirs"].append(times)
                start = time.perf_counter()
                simplejpeg.decode_jpeg(data)
                runs["libjpeg"].append({"decode": 1e3 * (time.perf_counter() - start)})
                for mode in ["raw", "kind"]:
                    ours.stdin.write(f"{file}\t{args.size}\t{mode}\t{'' if round else out}\n")
                    ours.stdin.flush()
                    times = json.loads(ours.stdout.readline())
                    runs[mode].append({**times, "after": times["total"] - times["decode"]})
                    if round == 0:
                        pixels[mode] = np.fromfile(out, np.uint8).reshape(args.size, args.size, 3)
            # The first round warms up: pages, buffers, tables.
            fastest = {
                side: {part: min(run[part] for run in runs[1:]) for part in runs[0]}
                for side, runs in runs.items()
            }
            name = f"{width}×{height} {len(data) / 1e6:.1f} MB q{quality}"
            for label, side in [("theirs", "theirs"), ("libjpeg", "libjpeg"), ("raw", "raw"), ("default", "kind")]:
                m = fastest[side]
                cells = " ".join(f"{m[part]:8.1f}" if part in m else " " * 8 for part in ["decode", "after", "total"])
                note = ""
                if side in pixels:
                    steps = np.abs(pixels[side].astype(int) - np.asarray(image))
                    ratio = {part: fastest["theirs"][part] / m[part] for part in ["after", "total"]}
                    note = (
                        f"  decode {m['decode'] / fastest['libjpeg']['decode']:.2f}× libjpeg's, after {ratio['after']:.1f}× and"
                        f" all {ratio['total']:.1f}× as fast; at most {steps.max()} steps apart, mean {steps.mean():.4f}"
                    )
                print(f"{name:24} {label:10} {cells}{note}", flush=True)
    ours.stdin.close()


main()
