"""Writes folders in the published format: configs, tokenizer, shards and their index."""
import base64
import json
import math

from safetensors.torch import save_file

from glm4v import INDEX
from shapes import SPECIALS


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_texts(folder, config, tokens):
    """config.json, generation_config.json and the tokenizer of `tokens`, special ones after them."""
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", dict(
        eos_token_id=config["eos_token_id"], pad_token_id=config["pad_token_id"], do_sample=True, temperature=0.8,
        max_length=config["seq_length"], top_p=0.8))
    lines = (base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
    (folder / "tokenizer.model").write_bytes(b"".join(lines))
    added = {str(len(tokens) + i): dict(content=name, special=True) for i, name in enumerate(SPECIALS)}
    write_json(folder / "tokenizer_config.json", dict(added_tokens_decoder=added, tokenizer_class="ChatGLM4Tokenizer"))


def split(sizes, shards):
    """Names into `shards` lists of about equal bytes, in order; `sizes` is {name: bytes}."""
    share = math.fsum(sizes.values()) / shards
    lists, done = [[] for _ in range(shards)], 0
    for name, size in sizes.items():
        lists[min(int((done + size / 2) / share), shards - 1)].append(name)
        done += size
    return lists


def shard_name(i, shards):
    return f"model-{i + 1:05}-of-{shards:05}.safetensors"


def write_index(folder, sizes, lists):
    files = {name: shard_name(i, len(lists)) for i, names in enumerate(lists) for name in names}
    write_json(folder / INDEX, dict(metadata=dict(total_size=sum(sizes.values())), weight_map=files))


def write_weights(folder, tensors, shards, index):
    sizes = {name: t.nbytes for name, t in tensors.items()}
    if not index:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    lists = split(sizes, shards)
    for i, names in enumerate(lists):
        save_file({n: tensors[n] for n in names}, folder / shard_name(i, shards), metadata={"format": "pt"})
    write_index(folder, sizes, lists)
