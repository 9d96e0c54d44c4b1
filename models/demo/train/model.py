"""GLM-4V in PyTorch: the published layers under the published tensor names, any sizes.

One module serves training (bf16) and evaluation. Parameter names equal the tensor names of the published folder.
"""
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the vision tower, named as in config.json's `vision_config`."""
    image_size: int
    patch_size: int
    hidden_size: int
    num_hidden_layers: int
    num_heads: int
    intermediate_size: int
    scaling_factor: float
    num_positions: int
    in_channels: int = 3
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True)
class Config:
    """Sizes and special ids of the whole model, named as in config.json."""
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    kv_channels: int
    multi_query_group_num: int
    ffn_hidden_size: int
    padded_vocab_size: int
    seq_length: int
    boi_token_id: int
    eoi_token_id: int
    pad_token_id: int
    eos_token_id: tuple
    vision: VisionConfig
    layernorm_epsilon: float = 1.5625e-07
    rope_ratio: float = 1.0

    @staticmethod
    def from_dict(raw: dict) -> "Config":
        def pick(cls, d):
            return {k: d[k] for k in cls.__dataclass_fields__ if k in d}
        vision = VisionConfig(**pick(VisionConfig, raw["vision_config"]))
        return Config(**{**pick(Config, raw), "vision": vision, "eos_token_id": tuple(raw["eos_token_id"])})

    @staticmethod
    def load(folder) -> "Config":
        return Config.from_dict(json.loads((Path(folder) / "config.json").read_text()))

    @property
    def image_tokens(self) -> int:
        """Vectors that a picture becomes, boi and eoi included."""
        grid = self.vision.image_size // self.vision.patch_size
        return (grid // 2) ** 2 + 2


# ---------------------------------------------------------------- vision tower

class PatchEmbedding(nn.Module):
    """Pixels [B, 3, S, S] to [B, 1 + patches, hidden]: patch convolution, class vector, position table."""

    def __init__(self, c: VisionConfig):
        super().__init__()
        self.patch = c.patch_size
        self.proj = nn.Conv2d(c.in_channels, c.hidden_size, c.patch_size, c.patch_size)
        self.cls_embedding = nn.Parameter(torch.zeros(1, c.hidden_size))
        self.position_embedding = nn.Embedding(c.num_positions, c.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        b, c, s, _ = pixels.shape
        g, p = s // self.patch, self.patch
        # A convolution whose stride is its size is a product over patches.
        x = pixels.view(b, c, g, p, g, p).permute(0, 2, 4, 1, 3, 5).reshape(b, g * g, c * p * p)
        x = F.linear(x, self.proj.weight.flatten(1), self.proj.bias)
        x = torch.cat([self.cls_embedding.expand(b, 1, -1), x], 1)
        return x + self.position_embedding.weight


class VisionAttention(nn.Module):
    def __init__(self, c: VisionConfig):
        super().__init__()
        self.heads = c.num_heads
        self.query_key_value = nn.Linear(c.hidden_size, 3 * c.hidden_size)
        self.dense = nn.Linear(c.hidden_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        b, n, h = x.shape
        q, k, v = self.query_key_value(x).view(b, n, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)
        return self.dense(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, h))


class VisionMlp(nn.Module):
    def __init__(self, c: VisionConfig):
        super().__init__()
        self.fc1 = nn.Linear(c.hidden_size, c.intermediate_size)
        self.fc2 = nn.Linear(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    """Post-norm: each norm follows its sub-layer, inside the residual branch."""

    def __init__(self, c: VisionConfig):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.attention = VisionAttention(c)
        self.post_attention_layernorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.mlp = VisionMlp(c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.input_layernorm(self.attention(x))
        return x + self.post_attention_layernorm(self.mlp(x))


class VisionTransformer(nn.Module):
    def __init__(self, c: VisionConfig):
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(c) for _ in range(c.num_hidden_layers))


class Adapter(nn.Module):
    """From the tower to the decoder: linear, norm (eps 1e-5), gelu, gated MLP."""

    def __init__(self, hidden: int, ffn: int):
        super().__init__()
        self.linear_proj = nn.Linear(hidden, hidden, bias=False)
        self.norm1 = nn.LayerNorm(hidden)
        self.dense_h_to_4h = nn.Linear(hidden, ffn, bias=False)
        self.gate_proj = nn.Linear(hidden, ffn, bias=False)
        self.dense_4h_to_h = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.linear_proj(x)))
        return self.dense_4h_to_h(F.silu(self.gate_proj(x)) * self.dense_h_to_4h(x))


class Vision(nn.Module):
    """Pixels [B, 3, S, S] to what the decoder reads, [B, image_tokens, hidden]."""

    def __init__(self, c: Config):
        super().__init__()
        v = c.vision
        self.scaling_factor = v.scaling_factor
        self.patch_embedding = PatchEmbedding(v)
        self.transformer = VisionTransformer(v)
        self.conv = nn.Conv2d(v.hidden_size, c.hidden_size, 2, 2)
        self.linear_proj = Adapter(c.hidden_size, c.ffn_hidden_size)
        self.boi = nn.Parameter(torch.zeros(1, 1, c.hidden_size))
        self.eoi = nn.Parameter(torch.zeros(1, 1, c.hidden_size))

    def undivided(self, pixels: Tensor) -> Tensor:
        """The picture's vectors with boi and eoi, before the division by `scaling_factor`."""
        x = self.patch_embedding(pixels)
        for layer in self.transformer.layers:
            x = layer(x)
        x = x[:, 1:]
        b, n, h = x.shape
        g = math.isqrt(n) // 2
        # The 2x2 convolution of stride 2, as a product: channels outermost, as in its weight.
        x = x.reshape(b, g, 2, g, 2, h).permute(0, 1, 3, 5, 2, 4).reshape(b, g * g, h * 4)
        x = self.linear_proj(F.linear(x, self.conv.weight.flatten(1), self.conv.bias))
        return torch.cat([self.boi.expand(b, 1, -1), x, self.eoi.expand(b, 1, -1)], 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.undivided(pixels) / self.scaling_factor


# ---------------------------------------------------------------- decoder

class RmsNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding on the first half of each head, interleaved pairs; x [B, heads, T, head], cos [B, 1, T, head/4]."""
    r, rest = x.chunk(2, -1)
    a, b = r.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.cat([torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2), rest], -1)


class SelfAttention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.groups, self.head = c.num_attention_heads, c.multi_query_group_num, c.kv_channels
        self.query_key_value = nn.Linear(c.hidden_size, (self.heads + 2 * self.groups) * self.head)
        self.dense = nn.Linear(self.heads * self.head, c.hidden_size, bias=False)

    def forward(self, x, cos, sin, mask=None, cache=None):
        b, t, _ = x.shape
        qkv = self.query_key_value(x).view(b, t, -1, self.head).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.groups, self.groups], 1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        k, v = (y.repeat_interleave(self.heads // self.groups, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and t > 1)
        return self.dense(y.transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(c.hidden_size, 2 * c.ffn_hidden_size, bias=False)
        self.dense_4h_to_h = nn.Linear(c.ffn_hidden_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.dense_h_to_4h(x).chunk(2, -1)
        return self.dense_4h_to_h(F.silu(gate) * up)


class DecoderLayer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm = RmsNorm(c.hidden_size, c.layernorm_epsilon)
        self.self_attention = SelfAttention(c)
        self.post_attention_layernorm = RmsNorm(c.hidden_size, c.layernorm_epsilon)
        self.mlp = Mlp(c)

    def forward(self, x, cos, sin, mask=None, cache=None):
        x = x + self.self_attention(self.input_layernorm(x), cos, sin, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Encoder(nn.Module):
    """The published name of the decoder stack."""

    def __init__(self, c: Config):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c.num_layers))
        self.final_layernorm = RmsNorm(c.hidden_size, c.layernorm_epsilon)


class Rotary(nn.Module):
    """cos and sin of the angles; angles in f32 as published, whatever the weights' type."""

    def __init__(self, c: Config):
        super().__init__()
        dim = c.kv_channels // 2
        base = 10000.0 * c.rope_ratio
        self.inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))

    def forward(self, positions: Tensor, dtype) -> tuple[Tensor, Tensor]:
        self.inv_freq = self.inv_freq.to(positions.device)
        angle = positions[:, None, :, None].float() * self.inv_freq
        if dtype == torch.float64:
            angle = angle.double()
        return angle.cos().to(dtype), angle.sin().to(dtype)


class Embedding(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.word_embeddings = nn.Embedding(c.padded_vocab_size, c.hidden_size)


class Transformer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.embedding = Embedding(c)
        self.rotary_pos_emb = Rotary(c)
        self.encoder = Encoder(c)
        self.output_layer = nn.Linear(c.hidden_size, c.padded_vocab_size, bias=False)
        self.vision = Vision(c)


class KvCache:
    """Keys and values of one layer, [B, groups, T, head], grown by concatenation."""

    def __init__(self):
        self.k = self.v = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.k = k if self.k is None else torch.cat([self.k, k], 2)
        self.v = v if self.v is None else torch.cat([self.v, v], 2)
        return self.k, self.v


class Glm4v(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)

    @property
    def dtype(self):
        return self.transformer.output_layer.weight.dtype

    @property
    def device(self):
        return self.transformer.output_layer.weight.device

    def embed(self, ids: Tensor) -> Tensor:
        return self.transformer.embedding.word_embeddings(ids)

    def hidden(self, x: Tensor, positions: Tensor, mask=None, caches=None) -> Tensor:
        """Vectors [B, T, hidden] at positions [B, T] to the final norm's output.

        mask: bool [B, 1, T, keys], true where a key is seen; None means causal over equal lengths.
        """
        cos, sin = self.transformer.rotary_pos_emb(positions, x.dtype)
        for i, layer in enumerate(self.transformer.encoder.layers):
            x = layer(x, cos, sin, mask, caches[i] if caches else None)
        return self.transformer.encoder.final_layernorm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.transformer.output_layer(hidden)


def normalize(images: Tensor, dtype) -> Tensor:
    """u8 pictures [B, S, S, 3] to what the tower reads, [B, 3, S, S]."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return ((images.permute(0, 3, 1, 2).float() / 255 - mean) / std).to(dtype)


def positions_of(ids: list[int], config: Config) -> list[int]:
    """Positions after the three placeholders became the picture: its inner vectors share one."""
    out, p, i = [], 0, 0
    while i < len(ids):
        if ids[i] == config.boi_token_id:
            out += [p] + [p + 1] * (config.image_tokens - 2) + [p + 2]
            p, i = p + 3, i + 3
        else:
            out.append(p)
            p, i = p + 1, i + 1
    return out


# ---------------------------------------------------------------- initialisation

def sincos_table(grid: int, width: int) -> Tensor:
    """A 2-D sine-cosine code, [1 + grid*grid, width]; the class vector's row is zero. RMS about 0.7."""
    quarter = width // 4
    freq = torch.pi / 2 * (1.0 / grid) ** (torch.arange(quarter).float() / max(quarter - 1, 1)) * 1.0
    y, x = torch.meshgrid(torch.arange(grid).float(), torch.arange(grid).float(), indexing="ij")
    code = [f(a.reshape(-1, 1) * freq) for a in (x, y) for f in (torch.sin, torch.cos)]
    table = torch.cat(code, 1)
    return F.pad(torch.cat([torch.zeros(1, table.shape[1]), table]), (0, width - table.shape[1]))


def initialize(model: Glm4v, seed: int, norm_gain: float = 0.5) -> None:
    """Weights of a fresh model, in place (call it on an f32 model)."""
    gen = torch.Generator().manual_seed(seed)
    c, t = model.config, model.transformer

    def normal(w: Tensor, std: float):
        w.data.copy_(torch.randn(w.shape, generator=gen) * std)

    for name, p in model.named_parameters():
        if p.dim() >= 2:
            normal(p, p[0].numel() ** -0.5)
        elif name.endswith("bias"):
            p.data.zero_()
        else:
            p.data.fill_(1.0)
    for layer in t.encoder.layers:  # residual branches start small
        for w in (layer.self_attention.dense.weight, layer.mlp.dense_4h_to_h.weight):
            w.data.mul_((2 * c.num_layers) ** -0.5)
    for layer in t.vision.transformer.layers:
        # The post-norms decide how much a sub-layer adds: below one, so that patches and positions stay visible.
        layer.input_layernorm.weight.data.fill_(norm_gain)
        layer.post_attention_layernorm.weight.data.fill_(norm_gain)
        layer.attention.query_key_value.weight.data[: 2 * c.vision.hidden_size].mul_(0.7)
    normal(t.embedding.word_embeddings.weight, 0.3)
    normal(t.vision.boi, 2.0)
    normal(t.vision.eoi, 2.0)
    normal(t.vision.patch_embedding.cls_embedding, 0.5)
    v = c.vision
    t.vision.patch_embedding.position_embedding.weight.data.copy_(
        sincos_table(v.image_size // v.patch_size, v.hidden_size))
