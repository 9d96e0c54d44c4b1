"""Packed rows (pack.py) through the model."""
import torch
import torch.nn.functional as F

import pack
from model import Glm4v, normalize


def row_mask(segments: torch.Tensor, prefix: int) -> torch.Tensor:
    """bool [B, 1, prefix + T, prefix + T]: causal, within a conversation and from it to the prefix."""
    b, t = segments.shape
    whole = F.pad(segments, (prefix, 0))
    same = whole[:, :, None] == whole[:, None, :]
    to_prefix = (whole[:, None, :] == 0) & (whole[:, :, None] < pack.NO_PICTURE)
    causal = torch.ones(prefix + t, prefix + t, dtype=torch.bool, device=segments.device).tril()
    return ((same | to_prefix) & causal)[:, None]


def row_hidden(model: Glm4v, head: torch.Tensor, images: torch.Tensor, rows: torch.Tensor, long: bool) -> torch.Tensor:
    """The decoder's output over the text of rows i16 [B, 4, T] about pictures u8 [B, S, S, 3]: [B, T, hidden].

    head: ids of the prefix before the picture. A long row is one conversation: plain causal attention.
    """
    ids, positions = rows[:, pack.IDS].int(), rows[:, pack.POSITIONS].int()
    picture = model.transformer.vision(normalize(images, model.dtype))
    b, n = len(rows), len(head)
    prefix = n + picture.shape[1]
    start = torch.tensor([*range(n), n, *[n + 1] * (picture.shape[1] - 2), n + 2][:prefix], device=ids.device,
                         dtype=ids.dtype)
    x = torch.cat([model.embed(head).expand(b, -1, -1), picture, model.embed(ids)], 1)
    positions = torch.cat([start.expand(b, -1), positions], 1)
    mask = None if long else row_mask(rows[:, pack.SEGMENTS], prefix)
    return model.hidden(x, positions, mask)[:, prefix:]


def targets(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of each text position, and its loss weight (0 where nothing is learned)."""
    return F.pad(rows[:, pack.IDS, 1:], (0, 1)).long(), rows[:, pack.WEIGHTS].contiguous().view(torch.float16).float()


def weighted_loss(hidden: torch.Tensor, output: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The answers' weighted mean loss; hidden [B, T, hidden], output [vocabulary, hidden]."""
    logits = F.linear(hidden, output).float()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()
