"""Writes tests/data/checkpoints: small random checkpoints in the published format, each with a picture, a conversation
about it and what the double-precision reference makes of them.

    python -m pip install -r tests/reference/requirements.txt
    python tests/reference/make_goldens.py
"""
import argparse
import math
import shutil
from pathlib import Path

import tiktoken
import torch
from PIL import Image
from safetensors.torch import save_file

from folder import write_json, write_texts, write_weights
from glm4v import Reference
from shapes import QUESTIONS, SHAPES, SPLIT_PATTERN, SQUARE, TOKENS, config, special, tensors

NEW_TOKENS = 6
# Between the two likeliest tokens at every step: greedy choices must not hang on rounding.
LEAST_MARGIN = 1e-3
# How far this same reference, computing in bf16, may be from itself in f64: a random model can have a row so
# ill-conditioned that nobody's bf16 gets it right.
MOST_IN_BF16 = 1.6e-2
# Of the prompt's logits every so many columns are kept; those after it are kept whole.
STRIDE = 4
# Their deviation.
LOGITS = 0.25


def weight(name, shape, gen, tied):
    """A random tensor that keeps values near one on their way: nothing vanishes, nothing is the identity."""
    x = torch.randn(shape, generator=gen, dtype=torch.float64)
    if "norm" in name:
        return 0.2 * x + (1 if name.endswith("weight") else 0)
    if len(shape) == 1:
        return 0.2 * x
    if name in ("vision.boi", "vision.eoi"):
        return 2 * x
    if "embedding" in name and "proj" not in name and not (tied and name.startswith("embedding")):
        return 0.7 * x
    x = x * math.prod(shape[1:]) ** -0.5
    # Logits of about one at most: rounding to bf16 alone moves a value of 4 by 0.008.
    if name.endswith((".self_attention.dense.weight", ".mlp.dense_4h_to_h.weight")):
        x = x * 0.5  # residual branches that add less than they read, as in trained models
    return x * LOGITS if name.startswith("output_layer") or name.startswith("embedding") and tied else x


def write_checkpoint(folder, shape, seed):
    decoder, vision, stored = shape
    c = config(decoder, vision, stored["decoder"])
    gen = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in tensors(c):
        dtype = getattr(torch, stored["vision" if name.startswith("vision.") else "decoder"])
        weights[f"transformer.{name}"] = weight(name, size, gen, c["tie_word_embeddings"]).to(dtype)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_texts(folder, c, TOKENS)
    write_weights(folder, weights, stored["shards"], stored["index"])


def goldens(folder, seed):
    """Writes the goldens, or says why this seed's would be poor."""
    model = Reference(folder)
    size = model.config["vision_config"]["image_size"]
    gen = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (size, size, 3), generator=gen, dtype=torch.uint8)
    vectors = model.vision(picture)
    encoding = tiktoken.Encoding("small", pat_str=SPLIT_PATTERN, special_tokens={},
                                 mergeable_ranks={token: rank for rank, token in enumerate(TOKENS)})
    ids = [special("[gMASK]"), special("<sop>")]
    tensors, turns = {"vision": vectors}, []
    for turn, question in enumerate(QUESTIONS):
        ids += [special("<|user|>")] + encoding.encode_ordinary("\n")
        if turn == 0:
            ids += [special(name) for name in ("<|begin_of_image|>", "<|endoftext|>", "<|end_of_image|>")]
        ids += encoding.encode_ordinary(question) + [special("<|assistant|>")]
        prompt, answer, steps = list(ids), [], []
        for _ in range(NEW_TOKENS):
            logits = model.logits(ids, vectors)
            if turn == 0 and not answer:
                tensors["prompt_logits"] = logits[:, ::STRIDE]
            best, second = logits[-1].topk(2).values
            if best - second < LEAST_MARGIN:
                return f"two tokens are {best - second:.1e} apart"
            steps.append(logits[-1])
            answer.append(int(logits[-1].argmax()))
            if answer[-1] in model.config["eos_token_id"] or answer[-1] == model.config["boi_token_id"]:
                return "an answer ends early"
            ids.append(answer[-1])
        turns.append(dict(question=question, prompt_ids=prompt, position_ids=model.positions(prompt),
                          answer_ids=answer))
        tensors[f"turn_{turn}_logits"] = torch.stack(steps)
    if len({token for turn in turns for token in turn["answer_ids"]}) < 6:
        return "answers repeat themselves"
    rough = Reference(folder, torch.bfloat16)
    off = float((rough.logits(ids, rough.vision(picture)).double() - model.logits(ids, vectors)).abs().max())
    if off > MOST_IN_BF16:
        return f"bf16 moves a logit by {off:.4f}"
    # f32 is a hundred times finer than what is asked of f32.
    save_file({name: t.float().contiguous() for name, t in tensors.items()}, folder / "goldens.safetensors")
    Image.fromarray(picture.numpy()).save(folder / "picture.png", optimize=True)
    write_json(folder / "conversation.json", turns)
    kib = sum(file.stat().st_size for file in folder.iterdir()) / 1024
    print(f"{folder.name}: seed {seed}, {kib:.0f} KiB, vision rms {vectors.std():.2f}, "
          f"logit rms {tensors['prompt_logits'].std():.2f}, {off:.4f} off in bf16")
    return None


@torch.no_grad()
def main():
    torch.set_num_threads(1)  # tiny products: threads would only wait for one another
    here = Path(__file__).resolve().parent
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", type=Path, default=here.parent / "data" / "checkpoints")
    args.add_argument("names", nargs="*", help="checkpoints to write [default: all]")
    a = args.parse_args()
    out = a.out
    for i, (name, shape) in enumerate((SHAPES | SQUARE).items()):
        if a.names and name not in a.names:
            continue
        for seed in range(100 * i, 100 * (i + 1)):
            write_checkpoint(out / name, shape, seed)
            poor = goldens(out / name, seed)
            if poor is None:
                break
        else:
            raise SystemExit(f"{name}: no good seed, the last because {poor}")


if __name__ == "__main__":
    main()
