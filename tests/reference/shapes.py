"""The small checkpoints: odd shapes that a shortcut would not survive. Everything left out is as published."""

# Of the published config.json, what says nothing that is not said elsewhere: some readers want it to be there.
PUBLISHED = dict(apply_query_key_layer_scaling=True, attention_softmax_in_fp32=True, bias_dropout_fusion=True,
                 fp32_residual_connection=False)

# name: (config.json's keys, vision_config's keys, how it is stored)
SHAPES = {
    # One key/value group, the smallest heads, no rope_ratio, f32; one file and no index.
    "one-group-f32": (
        dict(hidden_size=16, kv_channels=16, num_attention_heads=3, multi_query_group_num=1, ffn_hidden_size=28,
             num_layers=2, seq_length=160),
        dict(image_size=24, patch_size=6, hidden_size=18, num_heads=3, intermediate_size=28, num_hidden_layers=2,
             scaling_factor=2),
        dict(decoder="float32", vision="float32", shards=1, index=False)),
    # Two groups, heads of 48, rope_ratio 1 said aloud, bf16, three shards.
    "two-groups-bf16": (
        dict(hidden_size=16, kv_channels=48, num_attention_heads=4, multi_query_group_num=2, ffn_hidden_size=44,
             num_layers=2, rope_ratio=1, seq_length=192),
        dict(image_size=40, patch_size=10, hidden_size=20, num_heads=2, intermediate_size=44, num_hidden_layers=2),
        dict(decoder="bfloat16", vision="bfloat16", shards=3, index=True)),
    # Four groups, rope_ratio 500, f16, one shard with its index.
    "four-groups-f16": (
        dict(hidden_size=20, kv_channels=20, num_attention_heads=8, multi_query_group_num=4, ffn_hidden_size=28,
             num_layers=2, rope_ratio=500, layernorm_epsilon=1e-5),
        dict(image_size=28, patch_size=7, hidden_size=20, num_heads=5, intermediate_size=32, num_hidden_layers=3,
             scaling_factor=2),
        dict(decoder="float16", vision="float16", shards=1, index=True)),
    # The published head size, a bf16 decoder under an f16 tower, three shards; a picture of 36 vectors.
    "wide-heads-mixed": (
        dict(hidden_size=24, kv_channels=128, num_attention_heads=2, multi_query_group_num=1, ffn_hidden_size=40,
             num_layers=1, rope_ratio=500),
        dict(image_size=24, patch_size=2, hidden_size=16, num_heads=1, intermediate_size=24, num_hidden_layers=1),
        dict(decoder="bfloat16", vision="float16", shards=3, index=True)),
    # As many groups as heads, an output layer tied to the embedding.
    "tied-f16": (
        dict(hidden_size=24, kv_channels=64, num_attention_heads=2, multi_query_group_num=2, ffn_hidden_size=36,
             num_layers=1, tie_word_embeddings=True),
        dict(image_size=20, patch_size=10, hidden_size=20, num_heads=2, intermediate_size=36, num_hidden_layers=2),
        dict(decoder="float16", vision="float16", shards=3, index=True)),
}

# What candle-transformers can load too: the heads make up the hidden size, and all of config.json is there.
SQUARE = {
    "square-f32": (
        dict(hidden_size=48, kv_channels=16, num_attention_heads=3, multi_query_group_num=1, ffn_hidden_size=56,
             num_layers=2, rope_ratio=1, seq_length=512, **PUBLISHED),
        dict(image_size=24, patch_size=6, hidden_size=18, num_heads=3, intermediate_size=28, num_hidden_layers=1),
        dict(decoder="float32", vision="float32", shards=1, index=False)),
    # Two groups, another base, bf16.
    "square-bf16": (
        dict(hidden_size=64, kv_channels=16, num_attention_heads=4, multi_query_group_num=2, ffn_hidden_size=44,
             num_layers=3, rope_ratio=500, seq_length=512, **PUBLISHED),
        dict(image_size=24, patch_size=6, hidden_size=18, num_heads=3, intermediate_size=28, num_hidden_layers=1),
        dict(decoder="bfloat16", vision="bfloat16", shards=2, index=True)),
}

SPECIALS = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
            "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>",
            "<|begin_of_video|>", "<|end_of_video|>"]

# The bytes, and some merges so that joining happens.
TOKENS = [bytes([i]) for i in range(256)] + [
    b"th", b"the", b" t", b" th", b" the", b"ca", b"cat", b" c", b" ca", b" cat", b"how", b"ow",
    "猫".encode()[:2], "猫".encode(), "图".encode()[:2], "图".encode()]

SPLIT_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                 r"|\s*[\r\n]+|\s+(?!\S)|\s+")

QUESTIONS = ["how many cats?", "图里有猫", "the 2nd cat"]


def special(name):
    return len(TOKENS) + SPECIALS.index(name)


def config(decoder, vision, dtype):
    """config.json with the published keys."""
    grid = vision["image_size"] // vision["patch_size"]
    return {
        "architectures": ["ChatGLMForConditionalGeneration"], "model_type": "chatglm", "add_bias_linear": False,
        "add_qkv_bias": True, "apply_residual_connection_post_layernorm": False, "layernorm_epsilon": 1.5625e-07,
        "multi_query_attention": True, "original_rope": True, "post_layer_norm": True, "rmsnorm": True,
        "seq_length": 8192, "tie_word_embeddings": False, "torch_dtype": dtype,
        "padded_vocab_size": -(-(len(TOKENS) + len(SPECIALS)) // 8) * 8,
        "eos_token_id": [special(name) for name in ("<|endoftext|>", "<|user|>", "<|observation|>")],
        "pad_token_id": special("<|endoftext|>"),
        "boi_token_id": special("<|begin_of_image|>"), "eoi_token_id": special("<|end_of_image|>"),
        **decoder,
        "vision_config": {"hidden_act": "gelu", "in_channels": 3, "layer_norm_eps": 1e-06, "dropout_prob": 0.0,
                          "scaling_factor": 8, "num_positions": grid * grid + 1, **vision},
    }


def tensors(c):
    """Every tensor of the published format and its shape."""
    h, f, v = c["hidden_size"], c["ffn_hidden_size"], c["padded_vocab_size"]
    size, heads, groups = c["kv_channels"], c["num_attention_heads"], c["multi_query_group_num"]
    qkv = (heads + 2 * groups) * size
    yield "embedding.word_embeddings.weight", (v, h)
    for i in range(c["num_layers"]):
        at = f"encoder.layers.{i}"
        yield f"{at}.input_layernorm.weight", (h,)
        yield f"{at}.self_attention.query_key_value.weight", (qkv, h)
        yield f"{at}.self_attention.query_key_value.bias", (qkv,)
        yield f"{at}.self_attention.dense.weight", (h, heads * size)
        yield f"{at}.post_attention_layernorm.weight", (h,)
        yield f"{at}.mlp.dense_h_to_4h.weight", (2 * f, h)
        yield f"{at}.mlp.dense_4h_to_h.weight", (h, f)
    yield "encoder.final_layernorm.weight", (h,)
    if not c.get("tie_word_embeddings"):
        yield "output_layer.weight", (v, h)
    yield "rotary_pos_emb.inv_freq", (size // 4,)
    c = c["vision_config"]
    w, m, p = c["hidden_size"], c["intermediate_size"], c["patch_size"]
    yield "vision.patch_embedding.proj.weight", (w, 3, p, p)
    yield "vision.patch_embedding.proj.bias", (w,)
    yield "vision.patch_embedding.cls_embedding", (1, w)
    yield "vision.patch_embedding.position_embedding.weight", (c["num_positions"], w)
    for i in range(c["num_hidden_layers"]):
        at = f"vision.transformer.layers.{i}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}.{norm}.weight", (w,)
            yield f"{at}.{norm}.bias", (w,)
        for name, out, inp in (("attention.query_key_value", 3 * w, w), ("attention.dense", w, w),
                               ("mlp.fc1", m, w), ("mlp.fc2", w, m)):
            yield f"{at}.{name}.weight", (out, inp)
            yield f"{at}.{name}.bias", (out,)
    yield "vision.conv.weight", (h, w, 2, 2)
    yield "vision.conv.bias", (h,)
    yield "vision.linear_proj.linear_proj.weight", (h, h)
    yield "vision.linear_proj.norm1.weight", (h,)
    yield "vision.linear_proj.norm1.bias", (h,)
    yield "vision.linear_proj.dense_h_to_4h.weight", (f, h)
    yield "vision.linear_proj.gate_proj.weight", (f, h)
    yield "vision.linear_proj.dense_4h_to_h.weight", (h, f)
    yield "vision.boi", (1, 1, h)
    yield "vision.eoi", (1, 1, h)
