"""DMA written out in float64: one row, one key at a time."""

from math import exp, log1p

import torch
from torch import Tensor


def softplus(x: float) -> float:
    return x + log1p(exp(-x)) if x > 0 else log1p(exp(x))


def score(v: Tensor, weight: Tensor, a: Tensor, form: str) -> Tensor:
    """(g m) of one sample (g m d)."""
    g, m, _ = v.shape
    out = torch.zeros(g, m, dtype=torch.float64)
    for j in range(m):
        joined = torch.cat([v[head, j] for head in range(g)]).double()
        for head in range(g):
            step = float(a[head]) * softplus(float(weight[head].double() @ joined))
            out[head, j] = exp(step) if form == "exp" else step
    return out


def kept(scores: list[float], visible: list[bool], window: int) -> list[bool]:
    """One row: the best, of equal ones the last."""
    order = sorted((j for j, seen in enumerate(visible) if seen), key=lambda j: (-scores[j], -j))
    return [j in order[:window] for j in range(len(scores))]


def smoothed(flags: list[bool], visible: list[bool], size: int) -> list[bool]:
    out = []
    for start in range(0, len(flags), size):
        run = flags[start : start + size]
        out += [2 * sum(run) > len(run)] * len(run)
    return [flag and seen for flag, seen in zip(out, visible, strict=True)]


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, keep: Tensor, scale: float) -> Tensor:
    """(b h n dv): q (b h n d), k and v (b g m d), bias and keep (b g n m); 0 where a row keeps none."""
    ratio = q.shape[1] // k.shape[1]
    k, v, bias, keep = (x.repeat_interleave(ratio, dim=1) for x in (k, v, bias, keep))
    logits = (q @ k.mT * scale + bias).masked_fill(~keep, -torch.inf)
    some = keep.any(-1, keepdim=True)
    shares = torch.where(some, logits, 0.0).softmax(-1)
    return torch.where(some, shares @ v, 0.0)


def backward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, keep: Tensor, scale: float, up: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dv, db by key and dS, by the formulas; one head of keys for each of queries, no row without keys."""
    shares = (q @ k.mT * scale + bias[:, :, None]).masked_fill(~keep, -torch.inf).softmax(-1)
    d_shares = up @ v.mT
    ds = shares * (d_shares - (d_shares * shares).sum(-1, keepdim=True))
    return scale * ds @ k, scale * ds.mT @ q, shares.mT @ up, ds.sum(2), ds
