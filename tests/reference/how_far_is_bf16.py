"""How far bf16 moves the logits of small random checkpoints that nobody picked: what a bar on them can mean.

    python tests/reference/how_far_is_bf16.py          # 8 seeds of each shape

For each checkpoint, beside the reference in double precision: PyTorch computing everything in bf16, and double precision with
nothing but the stored weights rounded to bf16.
"""
import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from glm4v import Reference
from make_goldens import write_checkpoint
from shapes import SHAPES, special

IDS = 24  # of text, after the picture


def conversation(config, gen):
    """A picture and some words of no meaning."""
    words = torch.randint(0, special("<|endoftext|>"), (IDS,), generator=gen).tolist()
    size = config["vision_config"]["image_size"]
    picture = torch.randint(0, 256, (size, size, 3), generator=gen, dtype=torch.uint8)
    start = [special(name) for name in ("[gMASK]", "<sop>", "<|user|>", "<|begin_of_image|>", "<|endoftext|>", "<|end_of_image|>")]
    return picture, start + words


@torch.no_grad()
def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seeds", type=int, default=8, help="of each shape")
    a = args.parse_args()
    torch.set_num_threads(1)
    print("| shape | deviation of logits | all in bf16: off at most, median and most of seeds | only weights rounded |")
    print("|---|---|---|---|")
    every = []
    for name, shape in SHAPES.items():
        rows = []
        for seed in range(10_000, 10_000 + a.seeds):
            with tempfile.TemporaryDirectory() as folder:
                write_checkpoint(Path(folder) / name, shape, seed)
                exact, rough, rounded = (Reference(Path(folder) / name, dtype)
                                         for dtype in (torch.float64, torch.bfloat16, torch.float64))
            rounded.tensors = {key: value.bfloat16().double() for key, value in rounded.tensors.items()}
            picture, ids = conversation(exact.config, torch.Generator().manual_seed(seed))
            logits = exact.logits(ids, exact.vision(picture))
            off = [float((m.logits(ids, m.vision(picture)).double() - logits).abs().max()) for m in (rough, rounded)]
            rows.append((float(logits.std()), *off))
        every += rows
        tell(name, rows)
    tell("all", every)


def tell(name, rows):
    spread, rough, rounded = zip(*rows)
    print(f"| {name} | {statistics.mean(spread):.2f} | {statistics.median(rough):.3f}, {max(rough):.3f} "
          f"| {statistics.median(rounded):.3f}, {max(rounded):.3f} |", flush=True)


if __name__ == "__main__":
    main()
