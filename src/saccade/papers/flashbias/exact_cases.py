"""Priors whose factors are exact, against dense softmax attention in float64."""

from collections.abc import Iterable

import torch
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import plain_call
from saccade.experiments import Row
from saccade.ops import attend
from saccade.ops.exact_factors import alibi_slopes, cosine_factors, distance_factors, linear_factors


def gaps(n: int = 65, m: int = 33, heads: int = 4, channels: int = 8) -> Iterable[Row]:
    """Per prior: columns, and the largest difference to dense softmax attention, of the output and the gradients."""
    i, j = (torch.arange(size, dtype=torch.float64) for size in (n, m))
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(size, 3, dtype=torch.float64, generator=generator) for size in (n, m))
    slopes = alibi_slopes(heads)
    cases = {
        "alibi": (linear_factors(slopes, i, j), slopes[:, None, None] * (j - i[:, None])),
        "alibi, by key": (linear_factors(slopes, i, j, "keys"), slopes[:, None, None] * (j - i[:, None])),
        "distance, 3d": (distance_factors(x, y, form="each_axis"), -(x[:, None] - y).square().sum(-1)),
        "distance, d + 2": (distance_factors(x, y), -(x[:, None] - y).square().sum(-1)),
        "distance, d + 1": (distance_factors(x, y, form="keys"), -(x[:, None] - y).square().sum(-1)),
        "cosine": (cosine_factors(0.3, i, j), (0.3 * (i[:, None] - j)).cos()),
    }
    shapes = ((1, heads, size, channels) for size in (n, m, m))
    qkv = [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]
    for name, (factors, values) in cases.items():
        yield {"case": name, **_gap(qkv, factors, values)}


def _gap(qkv: list[Tensor], factors: LowRank, values: Tensor) -> Row:
    q, k, v = qkv
    truth = (q @ k.mT * q.shape[-1] ** -0.5 + values).softmax(-1) @ v
    out = attend(plain_call(*qkv, bias=factors)).out
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    pairs = zip(*(torch.autograd.grad(result, qkv, weight) for result in (out, truth)), strict=True)
    gradient = max(float((mine - other).abs().max()) for mine, other in pairs)
    return {"rank": factors.rank, "output_gap": float((out - truth).detach().abs().max()), "gradient_gap": gradient}
