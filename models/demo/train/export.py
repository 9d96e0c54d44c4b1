"""Writes a checkpoint in the published folder format: config.json, generation_config.json,
tokenizer.model, tokenizer_config.json, model.safetensors.index.json and its shards."""
import argparse
import base64
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from model import Config, Glm4v

SPECIALS = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
            "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>",
            "<|begin_of_video|>", "<|end_of_video|>"]

VISION = dict(dropout_prob=0.0, hidden_act="gelu", in_channels=3, num_hidden_layers=6, hidden_size=320,
              patch_size=16, num_heads=5, intermediate_size=1024, layer_norm_eps=1e-6, num_positions=577,
              image_size=384, scaling_factor=8)

DECODER = dict(
    architectures=["ChatGLMForConditionalGeneration"], model_type="chatglm",
    add_bias_linear=False, add_qkv_bias=True, apply_query_key_layer_scaling=True,
    apply_residual_connection_post_layernorm=False, attention_dropout=0.0, attention_softmax_in_fp32=True,
    bias_dropout_fusion=True, ffn_hidden_size=768, fp32_residual_connection=False, hidden_dropout=0.0,
    hidden_size=256, kv_channels=64, layernorm_epsilon=1.5625e-07, multi_query_attention=True,
    multi_query_group_num=2, num_attention_heads=4, num_layers=4, original_rope=True, post_layer_norm=True,
    rmsnorm=True, seq_length=8192, use_cache=True, torch_dtype="bfloat16", tie_word_embeddings=False)


def make_config(ranks: int, decoder: dict | None = None, vision: dict | None = None) -> dict:
    """config.json for a tokenizer of `ranks` ordinary tokens: special ids come right after them."""
    ids = {name: ranks + i for i, name in enumerate(SPECIALS)}
    padded = -(-(ranks + len(SPECIALS)) // 64) * 64
    return {
        **DECODER, "padded_vocab_size": padded,
        "eos_token_id": [ids["<|endoftext|>"], ids["<|user|>"], ids["<|observation|>"]],
        "pad_token_id": ids["<|endoftext|>"],
        "boi_token_id": ids["<|begin_of_image|>"], "eoi_token_id": ids["<|end_of_image|>"],
        **(decoder or {}), "vision_config": {**VISION, **(vision or {})},
    }


def generation_config(config: dict) -> dict:
    """The published keys. The temperature is low: this model gives exact answers, it does not chat."""
    return dict(eos_token_id=config["eos_token_id"], pad_token_id=config["pad_token_id"], do_sample=True,
                temperature=0.1, max_length=config["seq_length"], top_p=0.8)


def tokenizer_config(ranks: int) -> dict:
    added = {str(ranks + i): dict(content=name, lstrip=False, normalized=False, rstrip=False,
                                  single_word=False, special=True) for i, name in enumerate(SPECIALS)}
    return dict(added_tokens_decoder=added, additional_special_tokens=SPECIALS, clean_up_tokenization_spaces=False,
                do_lower_case=False, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
                model_max_length=1000000000000000019884624838656, padding_side="left", remove_space=False,
                tokenizer_class="ChatGLM4Tokenizer")


def write_tokenizer(folder: Path, tokens: list[bytes]) -> None:
    (folder / "tokenizer.model").write_bytes(
        b"".join(base64.b64encode(t) + b" %d\n" % i for i, t in enumerate(tokens)))
    write_json(folder / "tokenizer_config.json", tokenizer_config(len(tokens)))


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_model(folder: Path, model: Glm4v, config: dict, shard_bytes: int) -> None:
    """Configs, index and shards; tensors take config's torch_dtype, in the order of the model."""
    dtype = getattr(torch, config["torch_dtype"])
    tensors = {k: v.detach().cpu().to(dtype).contiguous() for k, v in model.state_dict().items()}
    tensors["transformer.rotary_pos_emb.inv_freq"] = model.transformer.rotary_pos_emb.inv_freq.cpu().to(dtype)
    shards, size = [{}], 0
    for name, t in tensors.items():
        if size + t.nbytes > shard_bytes and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = t
        size += t.nbytes
    for old in folder.glob("model-*.safetensors"):
        old.unlink()
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map})
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", generation_config(config))


def load_model(folder, dtype=torch.float32) -> Glm4v:
    """The model of a published folder."""
    folder = Path(folder)
    model = Glm4v(Config.load(folder))
    state = {}
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for file in sorted(set(index["weight_map"].values())):
        state.update(load_file(folder / file))
    state.pop("transformer.rotary_pos_emb.inv_freq", None)
    model.load_state_dict(state)
    return model.to(dtype)


def main() -> None:
    from train import load_weights
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--state", type=Path, default=Path("state"), help="folder of the training state")
    args.add_argument("--tokenizer", type=Path, default=Path("assets/tokenizer"), help="folder that vocab.py wrote")
    args.add_argument("--out", type=Path, default=Path(".."), help="folder to write, models/demo")
    a = args.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(a.tokenizer / name, a.out / name)
    config = make_config(len((a.tokenizer / "tokenizer.model").read_bytes().splitlines()))
    model = Glm4v(Config.from_dict(config))
    load_weights(model, a.state)
    write_model(a.out, model, config, shard_bytes=8 << 20)


if __name__ == "__main__":
    main()
