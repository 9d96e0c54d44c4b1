"""Writes a random folder of the published model's full size and form: 15 bf16 shards, index, a tokenizer of the real
size. For measuring how a real folder loads; its answers mean nothing.

    python tests/reference/write_full_size.py OUT
    glimpse serve --model OUT

About 28 GB, written a shard at a time (2 GB of memory), on the GPU if there is one. `--layers N` writes a smaller one:
its first N decoder and vision layers.
"""
import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from folder import shard_name, split, write_index, write_texts
from shapes import tensors

CONFIG = Path(__file__).resolve().parent.parent / "data" / "glm-4v-9b.config.json"


def vocabulary(ranks):
    """The bytes, then made-up words: as many tokens as the published tokenizer has, each of them another."""
    return [bytes([rank]) if rank < 256 else b" %d" % rank for rank in range(ranks)]


def draw(name, shape, device):
    mean = 1 if name.endswith("norm.weight") or name.endswith("norm1.weight") else 0
    return torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(mean, 0.02).cpu()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("out", type=Path)
    args.add_argument("--config", type=Path, default=CONFIG)
    args.add_argument("--shards", type=int, default=15)
    args.add_argument("--layers", type=int, help="at most so many layers of each half")
    args.add_argument("--seed", type=int, default=0)
    a = args.parse_args()
    started = time.monotonic()
    config = json.loads(a.config.read_text())
    if a.layers:
        config["num_layers"] = min(a.layers, config["num_layers"])
        vision = config["vision_config"]
        vision["num_hidden_layers"] = min(a.layers, vision["num_hidden_layers"])
    a.out.mkdir(parents=True, exist_ok=True)
    write_texts(a.out, config, vocabulary(min(config["eos_token_id"])))
    shapes = {f"transformer.{name}": shape for name, shape in tensors(config)}
    sizes = {name: 2 * torch.Size(shape).numel() for name, shape in shapes.items()}
    lists = split(sizes, a.shards)
    write_index(a.out, sizes, lists)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(a.seed)
    for i, names in enumerate(lists):
        shard = {name: draw(name, shapes[name], device) for name in names}
        save_file(shard, a.out / shard_name(i, a.shards), metadata={"format": "pt"})
        print(f"{i + 1} of {a.shards} shards, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{sum(sizes.values()):,} bytes in {a.out}")


if __name__ == "__main__":
    main()
