"""Random checkpoints of given shapes in the published format, each with the outputs that this
double-precision reference computes for it: what other implementations are checked against."""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import export
from model import Config, Glm4v, KvCache, initialize, positions_of

SHAPES = {
    "demo-random": dict(),
    "odd1": dict(  # one key/value group, tiny heads, one shard, f32, no vision scaling but 2
        decoder=dict(hidden_size=48, kv_channels=16, num_attention_heads=6, multi_query_group_num=1,
                     ffn_hidden_size=104, num_layers=2, torch_dtype="float32", seq_length=512),
        vision=dict(image_size=32, patch_size=8, num_positions=17, hidden_size=24, num_heads=3,
                    intermediate_size=40, num_hidden_layers=2, scaling_factor=2), shard=1 << 30),
    "odd2": dict(  # four groups, 128-wide heads, rope_ratio 500, f16, three shards
        decoder=dict(hidden_size=192, kv_channels=128, num_attention_heads=8, multi_query_group_num=4,
                     ffn_hidden_size=320, num_layers=3, torch_dtype="float16", rope_ratio=500),
        vision=dict(image_size=56, patch_size=14, num_positions=17, hidden_size=112, num_heads=2,
                    intermediate_size=200, num_hidden_layers=3), shards=3),
    "odd3": dict(  # as many groups as heads, 32-wide heads, rope_ratio 1 said aloud, bf16, three shards
        decoder=dict(hidden_size=96, kv_channels=32, num_attention_heads=2, multi_query_group_num=2,
                     ffn_hidden_size=136, num_layers=2, rope_ratio=1, layernorm_epsilon=1e-5),
        vision=dict(image_size=72, patch_size=12, num_positions=37, hidden_size=64, num_heads=2,
                    intermediate_size=96, num_hidden_layers=1, scaling_factor=8), shards=3),
}


def tokens() -> list[bytes]:
    """A small vocabulary: the bytes, and some merges so that joining happens."""
    words = [b"th", b"the", b" t", b" th", b" the", b"ca", b"cat", b" c", b" ca", b" cat", b"how", b"ow",
             "猫".encode()[:2], "猫".encode(), "图".encode()[:2], "图".encode()]
    return [bytes([i]) for i in range(256)] + words


def build(folder: Path, seed: int, decoder=None, vision=None, shard=None, shards=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = tokens()
    config = export.make_config(len(vocabulary), decoder, vision)
    model = Glm4v(Config.from_dict(config))
    initialize(model, seed)
    gen = torch.Generator().manual_seed(seed)
    for p in model.parameters():  # biases and norm weights must not be trivial
        if p.dim() == 1:
            p.data.add_(torch.randn(p.shape, generator=gen) * 0.2)
    # A sharp head makes greedy choices clear of rounding.
    model.transformer.output_layer.weight.data.mul_(4)
    total = sum(p.numel() for p in model.parameters()) * (4 if config["torch_dtype"] == "float32" else 2)
    shard = shard or (total // shards + total // 20 if shards else 8 << 20)
    export.write_tokenizer(folder, vocabulary)
    export.write_model(folder, model, config, shard)
    goldens(folder, seed)


@torch.no_grad()
def goldens(folder: Path, seed: int) -> None:
    model = export.load_model(folder, torch.float64)
    c = model.config
    s = c.vision.image_size
    gen = torch.Generator().manual_seed(seed + 1)
    pixels = torch.randn(1, 3, s, s, generator=gen)  # f32: what an implementation is fed
    special = {n: c.pad_token_id + i for i, n in enumerate(export.SPECIALS)}
    text = [int(x) for x in torch.randint(0, 256, (12,), generator=gen)]
    ids = ([special["[gMASK]"], special["<sop>"], special["<|user|>"], 10]
           + [special["<|begin_of_image|>"], special["<|endoftext|>"], special["<|end_of_image|>"]]
           + text + [special["<|assistant|>"]])
    positions = positions_of(ids, c)
    undivided = model.transformer.vision.undivided(pixels.double())
    at = ids.index(c.boi_token_id)
    x = torch.cat([model.embed(torch.tensor([ids[:at]])), undivided / c.vision.scaling_factor,
                   model.embed(torch.tensor([ids[at + 3:]]))], 1)
    pos = torch.tensor([positions])
    caches = [KvCache() for _ in range(c.num_layers)]
    n = x.shape[1]
    mask = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
    prompt = model.logits(model.hidden(x, pos, mask, caches))
    chosen, steps, logits = [], [], prompt[:, -1]
    for i in range(8):
        steps.append(logits[0])
        chosen.append(int(logits.argmax()))
        if i < 7:
            x = model.embed(torch.tensor([[chosen[-1]]]))
            logits = model.logits(model.hidden(x, pos[:, -1:] + 1 + i, None, caches))[:, -1]
    # The cached steps must equal one pass over everything.
    full_ids = ids + chosen[:-1]
    full = torch.cat([model.embed(torch.tensor([full_ids[:at]])), undivided / c.vision.scaling_factor,
                      model.embed(torch.tensor([full_ids[at + 3:]]))], 1)
    once = model.logits(model.hidden(full, torch.tensor([positions_of(full_ids, c)])))[0, -8:]
    assert torch.allclose(once, torch.stack(steps), rtol=1e-9, atol=1e-9)
    top2 = torch.stack(steps).topk(2).values
    save_file({
        "pixels": pixels, "prompt_ids": torch.tensor(ids), "position_ids": torch.tensor(positions),
        "vision_undivided": undivided, "vision": undivided / c.vision.scaling_factor,
        "prompt_logits": prompt[0], "greedy_ids": torch.tensor(chosen), "greedy_logits": torch.stack(steps),
    }, folder / "goldens.safetensors")
    print(folder.name, json.dumps({"greedy": chosen, "least margin": round(float((top2[:, 0] - top2[:, 1]).min()), 4),
                                   "logit rms": round(float(prompt.std()), 3),
                                   "vision rms": round(float(undivided.std()), 3),
                                   "parameters": sum(p.numel() for p in model.parameters())}))


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("out", type=Path)
    a = args.parse_args()
    for i, (name, shape) in enumerate(SHAPES.items()):
        build(a.out / name, seed=20 + i, **shape)
