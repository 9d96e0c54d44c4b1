"""GLM-4V in plain PyTorch, in double precision: what Glimpse's numbers are checked against.

Written from the published layers' description, for reading: no cache, no batching, no fused kernel, one picture at most.
Every function takes the folder's tensors under their published names, widened to f64 (another type is for comparing).
Only the rotary angles are f32, as in the original.
"""
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
INDEX = "model.safetensors.index.json"


class Reference:
    """A folder in the published format, computed in `dtype`."""

    def __init__(self, folder, dtype=torch.float64):
        folder, self.dtype = Path(folder), dtype
        self.config = json.loads((folder / "config.json").read_text())
        index = folder / INDEX
        files = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
        self.tensors = {name: t.to(dtype) for file in files for name, t in load_file(folder / file).items()}

    def get(self, name):
        return self.tensors[f"transformer.{name}"]

    def linear(self, name, x):
        return F.linear(x, self.get(f"{name}.weight"), self.tensors.get(f"transformer.{name}.bias"))

    # ------------------------------------------------------------ vision

    def pixels(self, picture):
        """u8 [S, S, 3] to what the tower reads, [3, S, S]; rounded to f32 once, as every implementation's are."""
        x = (picture.float() / 255 - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
        return x.permute(2, 0, 1).to(self.dtype)

    def layer_norm(self, name, x, eps):
        return F.layer_norm(x, x.shape[-1:], self.get(f"{name}.weight"), self.get(f"{name}.bias"), eps)

    def vision(self, picture):
        """The vectors that stand for a picture in the decoder, boi and eoi included: [vectors + 2, hidden]."""
        v = self.config["vision_config"]
        eps, heads = v.get("layer_norm_eps", 1e-6), v["num_heads"]
        x = F.conv2d(self.pixels(picture)[None], self.get("vision.patch_embedding.proj.weight"),
                     self.get("vision.patch_embedding.proj.bias"), stride=v["patch_size"])[0].flatten(1).T
        x = torch.cat([self.get("vision.patch_embedding.cls_embedding"), x])
        x = x + self.get("vision.patch_embedding.position_embedding.weight")
        for i in range(v["num_hidden_layers"]):
            at = f"vision.transformer.layers.{i}"
            q, k, val = (y.unflatten(-1, (heads, -1)).transpose(0, 1)
                         for y in self.linear(f"{at}.attention.query_key_value", x).chunk(3, -1))
            weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
            attended = self.linear(f"{at}.attention.dense", (weights @ val).transpose(0, 1).flatten(1))
            x = x + self.layer_norm(f"{at}.input_layernorm", attended, eps)
            mlp = self.linear(f"{at}.mlp.fc2", F.gelu(self.linear(f"{at}.mlp.fc1", x)))
            x = x + self.layer_norm(f"{at}.post_attention_layernorm", mlp, eps)
        grid = v["image_size"] // v["patch_size"]
        x = x[1:].T.unflatten(-1, (grid, grid))
        x = F.conv2d(x[None], self.get("vision.conv.weight"), self.get("vision.conv.bias"), stride=2)[0].flatten(1).T
        p = "vision.linear_proj"
        x = F.gelu(self.layer_norm(f"{p}.norm1", self.linear(f"{p}.linear_proj", x), 1e-5))
        x = self.linear(f"{p}.dense_4h_to_h",
                        F.silu(self.linear(f"{p}.gate_proj", x)) * self.linear(f"{p}.dense_h_to_4h", x))
        x = torch.cat([self.get("vision.boi")[0], x, self.get("vision.eoi")[0]])
        return x / v.get("scaling_factor", 8)

    # ------------------------------------------------------------ decoder

    def positions(self, ids):
        """After the three placeholders became the picture: its inner vectors share one."""
        v = self.config["vision_config"]
        inner = (v["image_size"] // v["patch_size"]) ** 2 // 4
        out, at, i = [], 0, 0
        while i < len(ids):
            if ids[i] == self.config["boi_token_id"]:
                out += [at] + [at + 1] * inner + [at + 2]
                at, i = at + 3, i + 3
            else:
                out.append(at)
                at, i = at + 1, i + 1
        return out

    def embed(self, ids, vectors=None):
        """The decoder's input: tokens' vectors, and the picture's in the place of its placeholders."""
        x = self.get("embedding.word_embeddings.weight")[torch.tensor(ids)]
        if vectors is None:
            return x
        at = ids.index(self.config["boi_token_id"])
        return torch.cat([x[:at], vectors, x[at + 3:]])

    def rms_norm(self, name, x):
        scale = (x.pow(2).mean(-1, keepdim=True) + self.config.get("layernorm_epsilon", 1.5625e-07)).rsqrt()
        return x * scale * self.get(f"{name}.weight")

    def rotate(self, x, positions):
        """Rotary embedding on the first half of each head, interleaved pairs; x [T, heads, size]."""
        size = x.shape[-1] // 2
        base = 10000 * self.config.get("rope_ratio", 1)
        inv_freq = 1.0 / base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
        angle = (torch.tensor(positions, dtype=torch.float32)[:, None] * inv_freq).double()[:, None]
        a, b = x[..., :size:2], x[..., 1:size:2]
        turned = torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1).flatten(-2).to(x.dtype)
        return torch.cat([turned, x[..., size:]], -1)

    def decode(self, x, positions):
        """The logits after each row of x [T, hidden]: [T, vocabulary]."""
        c = self.config
        heads, groups, size = c["num_attention_heads"], c["multi_query_group_num"], c["kv_channels"]
        n = len(positions)
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        for i in range(c["num_layers"]):
            at = f"encoder.layers.{i}"
            qkv = self.linear(f"{at}.self_attention.query_key_value", self.rms_norm(f"{at}.input_layernorm", x))
            q, k, v = qkv.unflatten(-1, (-1, size)).split([heads, groups, groups], 1)
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            q, k, v = (y.transpose(0, 1) for y in (q, k, v))
            k, v = (y.repeat_interleave(heads // groups, 0) for y in (k, v))
            scores = (q @ k.transpose(1, 2) / math.sqrt(size)).masked_fill(hidden, -torch.inf)
            attended = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
            x = x + self.linear(f"{at}.self_attention.dense", attended)
            gate, up = self.linear(f"{at}.mlp.dense_h_to_4h",
                                   self.rms_norm(f"{at}.post_attention_layernorm", x)).chunk(2, -1)
            x = x + self.linear(f"{at}.mlp.dense_4h_to_h", F.silu(gate) * up)
        output = "embedding.word_embeddings" if c.get("tie_word_embeddings") else "output_layer"
        return F.linear(self.rms_norm("encoder.final_layernorm", x), self.get(f"{output}.weight"))

    def logits(self, ids, vectors=None):
        return self.decode(self.embed(ids, vectors), self.positions(ids))
