"""Compares the reference's language half with `GlmForCausalLM` of transformers, on every checkpoint here.

    python tests/reference/check_transformers.py

The weights are laid out for it as its own conversion of GLM-4 does; the picture's vectors go in as embeddings, at their
shared position. transformers keeps norms and angles in f32 whatever the model's type, hence the tolerance.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import GlmConfig, GlmForCausalLM

from glm4v import Reference

TOLERANCE = 1e-5


def glm(reference):
    """The decoder as a GlmForCausalLM in double precision."""
    c = reference.config
    model = GlmForCausalLM(GlmConfig(
        vocab_size=c["padded_vocab_size"], hidden_size=c["hidden_size"], intermediate_size=c["ffn_hidden_size"],
        num_hidden_layers=c["num_layers"], num_attention_heads=c["num_attention_heads"],
        num_key_value_heads=c["multi_query_group_num"], head_dim=c["kv_channels"], attention_bias=True,
        partial_rotary_factor=0.5, max_position_embeddings=c["seq_length"], rms_norm_eps=c["layernorm_epsilon"],
        rope_parameters=dict(rope_type="default", rope_theta=10000.0 * c.get("rope_ratio", 1),
                             partial_rotary_factor=0.5),
        tie_word_embeddings=c["tie_word_embeddings"], pad_token_id=None, eos_token_id=c["eos_token_id"],
        attn_implementation="eager")).double().eval()
    size, heads, groups = c["kv_channels"], c["num_attention_heads"], c["multi_query_group_num"]
    state = {"model.embed_tokens.weight": reference.get("embedding.word_embeddings.weight"),
             "model.norm.weight": reference.get("encoder.final_layernorm.weight")}
    output = "embedding.word_embeddings" if c["tie_word_embeddings"] else "output_layer"
    state["lm_head.weight"] = reference.get(f"{output}.weight")
    for i in range(c["num_layers"]):
        ours, theirs = f"encoder.layers.{i}", f"model.layers.{i}"
        for kind in ("weight", "bias"):
            qkv = reference.get(f"{ours}.self_attention.query_key_value.{kind}")
            for name, part in zip("qkv", qkv.split([heads * size, groups * size, groups * size])):
                state[f"{theirs}.self_attn.{name}_proj.{kind}"] = part
        state[f"{theirs}.self_attn.o_proj.weight"] = reference.get(f"{ours}.self_attention.dense.weight")
        state[f"{theirs}.mlp.gate_up_proj.weight"] = reference.get(f"{ours}.mlp.dense_h_to_4h.weight")
        state[f"{theirs}.mlp.down_proj.weight"] = reference.get(f"{ours}.mlp.dense_4h_to_h.weight")
        for norm in ("input_layernorm", "post_attention_layernorm"):
            state[f"{theirs}.{norm}.weight"] = reference.get(f"{ours}.{norm}.weight")
    model.load_state_dict(state)
    return model


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    folders = Path(__file__).resolve().parent.parent / "data" / "checkpoints"
    for folder in sorted(path for path in folders.iterdir() if path.is_dir()):
        reference = Reference(folder)
        ids = json.loads((folder / "conversation.json").read_text())[-1]["prompt_ids"]
        vectors = load_file(folder / "goldens.safetensors")["vision"].double()
        x, positions = reference.embed(ids, vectors), reference.positions(ids)
        ours = reference.decode(x, positions)
        # Without a mask it would take the picture's shared position for a row of sequences packed together.
        theirs = glm(reference)(inputs_embeds=x[None], position_ids=torch.tensor([positions]),
                                attention_mask=torch.ones(1, len(positions)), use_cache=False).logits[0]
        off = float((ours - theirs).abs().max())
        print(f"{folder.name}: {len(positions)} rows of logits, the largest difference is {off:.1e}")
        if off > TOLERANCE:
            raise SystemExit(f"{folder.name} differs by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
