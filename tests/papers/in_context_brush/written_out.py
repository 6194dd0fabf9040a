"""In-Context Brush written out with the whole map, for comparison."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """What a call gives: the output before and after, and the pieces of it."""

    base: Tensor
    out: Tensor
    text: Tensor
    demo: Tensor
    own: Tensor
    mass_text: Tensor
    mass_demo: Tensor
    weights: Tensor


def brushed(
    q: Tensor, k: Tensor, v: Tensor, *, text: Tensor, demo: Tensor, query: Tensor, alphas: tuple[float, float],
    beta: float, rows: str = "query", allowed: Tensor | None = None, bias: Tensor | None = None,
) -> Head:  # fmt: skip
    """Of q, k, v (b h n d) and numbers of tokens."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    a = scores.softmax(-1)
    base = a @ v
    parts = [a[:, :, query][..., group] @ v[:, :, group] for group in (text, demo)]
    rest = torch.tensor(sorted({*range(k.shape[2])} - {*text.tolist(), *demo.tolist()}))
    out = base.clone()
    out[:, :, query] = base[:, :, query] + alphas[0] * parts[0] + alphas[1] * parts[1]
    mass = [a[:, :, query][..., group].sum(-1) for group in (text, demo)]
    score = mass[0].sum(-1)
    low, high = score.amin(-1, keepdim=True), score.amax(-1, keepdim=True)
    w = 1 + beta * (score - low) / (high - low + torch.finfo(score.dtype).eps)
    if rows == "all":
        out = out * w[..., None, None]
    else:
        out[:, :, query] = out[:, :, query] * w[..., None, None]
    own = a[:, :, query][..., rest] @ v[:, :, rest]
    return Head(base, out, *parts, own, *mass, w)
