"""A plain rewrite in float64: alpha is a whole (t, t) matrix for each sentence, and autograd finds its gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from saccade.nn.perturbable import Perturbable


def differences(scores: Tensor, keep: Tensor, name: str) -> Tensor:
    """D (b t k): of each word's score to every other's, pads 0."""
    if name == "batch":
        d = scores[:, None] - scores[None]  # b j t
        d = (d * keep[:, None] * keep[None]).transpose(1, 2)  # b t j
    else:
        d = (scores[:, :, None] - scores[:, None]) * keep[:, :, None] * keep[:, None]
    norm = d.norm(dim=-1, keepdim=True)
    if name == "sentence":
        norm = (norm.square().sum(1, keepdim=True) / keep.sum(1)[:, None, None]).sqrt().expand_as(norm)
    return torch.where(norm > 0, d / torch.where(norm > 0, norm, 1), 0)


def iat(seen: Perturbable, loss: Callable[[Tensor], Tensor], eps: float, name: str) -> Tensor:
    """r(alpha*) of the published text."""
    basis = differences(seen.values, seen.keep, name)
    alpha = torch.zeros_like(basis, requires_grad=True)
    (g,) = torch.autograd.grad(loss(seen.run((alpha * basis).sum(-1))), alpha)
    norm = g.flatten(1).norm(dim=1)[:, None, None]
    return (eps * g / torch.where(norm > 0, norm, 1) * basis).sum(-1)


def at(seen: Perturbable, loss: Callable[[Tensor], Tensor], eps: float) -> Tensor:
    """r_AT, sentence by sentence."""
    r = torch.zeros_like(seen.values, requires_grad=True)
    (g,) = torch.autograd.grad(loss(seen.run(r)), r)
    return torch.stack([eps * row / row.norm() if row.norm() > 0 else row for row in g])
