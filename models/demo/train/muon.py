"""The optimizer: Muon for the hidden matrices, AdamW for everything else, on flat buffers.

All weights live in one flat bf16 tensor (what the model computes with, and what will be stored) beside
a flat f32 master; all gradients in another. So the all-reduce, the clipping and saving are one call each.
"""
import torch
from torch import Tensor


def orthogonalize(x: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix, batched, in bf16 (Jordan et al., Muon)."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.bfloat16() if x.is_cuda else x
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


def blocks(name: str, p: Tensor) -> tuple[int, int] | None:
    """The matrices inside a parameter, as rows x columns of each; None for what AdamW takes."""
    if p.dim() < 2 or any(s in name for s in ("embedding", "output_layer", "boi", "eoi")):
        return None
    rows, columns = p.shape[0], p[0].numel()
    if "encoder" in name and "query_key_value" in name:
        return rows // 4, columns  # two query heads, two query heads, keys, values
    if "query_key_value" in name:
        return rows // 3, columns
    if "encoder" in name and "dense_h_to_4h" in name:
        return rows // 2, columns  # gate, up
    return rows, columns


class Optimizer:
    def __init__(self, model, lr: float, adam_lr: float, decay: float, momentum=0.95, betas=(0.9, 0.98), clip=1.0):
        self.lr, self.adam_lr, self.decay, self.momentum, self.betas, self.clip = lr, adam_lr, decay, momentum, betas, clip
        self.steps = 0
        named = [(n, p, blocks(n, p)) for n, p in model.named_parameters()]
        named.sort(key=lambda x: x[2] or (0, 0))  # AdamW's first, then matrices of one shape side by side
        total = sum(p.numel() for _, p, _ in named)
        device = named[0][1].device
        self.master = torch.empty(total, device=device)
        # bf16 is what is stored; a CPU is far quicker in f32.
        self.weights = torch.empty(total, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
        self.gradients = torch.zeros_like(self.weights)
        self.layout, self.shapes, at = [], [], 0
        for name, p, shape in named:
            n = p.numel()
            self.master[at:at + n] = p.data.flatten()
            p.data = self.weights[at:at + n].view(p.shape)
            p.grad = self.gradients[at:at + n].view(p.shape)
            self.layout.append((name, at, n, tuple(p.shape)))
            if shape is None:
                self.adam_end = at + n
            elif self.shapes and self.shapes[-1][2] == shape:
                self.shapes[-1][1] = at + n
            else:
                self.shapes.append([at, at + n, shape])
            at += n
        self.weights.copy_(self.master)
        self.first = torch.zeros_like(self.master)  # AdamW's first moment, and Muon's momentum
        self.second = torch.zeros(self.adam_end, device=device)

    def step(self, scale: float) -> Tensor:
        """One step at `scale` times the peak rates, from `gradients`, which it zeroes. Returns their norm."""
        self.steps += 1
        g = self.gradients.float()
        norm = g.norm()
        g.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        self._adam(g[:self.adam_end], scale * self.adam_lr)
        self._muon(g, scale * self.lr)
        self.weights.copy_(self.master)
        self.gradients.zero_()
        return norm

    def _adam(self, g, lr):
        b1, b2 = self.betas
        m, v, w = self.first[:self.adam_end], self.second, self.master[:self.adam_end]
        m.lerp_(g, 1 - b1)
        v.lerp_(g * g, 1 - b2)
        t = self.steps
        w.addcdiv_(m, (v / (1 - b2 ** t)).sqrt_().add_(1e-8), value=-lr / (1 - b1 ** t))

    def _muon(self, g, lr):
        a = self.adam_end
        self.first[a:].lerp_(g[a:], 1 - self.momentum)
        g[a:].lerp_(self.first[a:], self.momentum)
        self.master[a:].mul_(1 - lr * self.decay)
        for start, end, (rows, columns) in self.shapes:
            update = orthogonalize(g[start:end].view(-1, rows, columns))
            # Scaled so that an update's elements are as large as AdamW's usually are (Moonlight).
            self.master[start:end].add_(update.flatten(), alpha=-lr * 0.2 * max(rows, columns) ** 0.5)

    def state(self) -> dict:
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load(self, state: dict) -> None:
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps = state["steps"]

    def tensors(self) -> dict[str, Tensor]:
        """The f32 master weights by parameter name."""
        return {n: self.master[at:at + k].view(shape) for n, at, k, shape in self.layout}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        for n, at, k, _ in self.layout:
            self.master[at:at + k] = tensors[n].flatten()
        self.weights.copy_(self.master)
