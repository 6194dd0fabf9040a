"""AttenCraft in float64 as the paper writes it, one map and one pixel at a time."""

from math import exp, log

import torch
from torch import Tensor


def stretched(x: Tensor) -> Tensor:
    low, high = float(x.min()), float(x.max())
    return torch.zeros_like(x) if low == high else (x - low) / (high - low)


def cross_map(q: Tensor, k: Tensor) -> Tensor:
    """Softmax rows of one head."""
    scores = [[sum(float(a * b) for a, b in zip(row, key, strict=True)) for key in k] for row in q]
    return torch.tensor([[exp(s) / sum(map(exp, row)) for s in row] for row in scores], dtype=torch.float64)


def propagated(image: Tensor, heat: Tensor, power: int) -> Tensor:
    spread = stretched(image)
    whole = torch.eye(len(spread), dtype=torch.float64)
    for _ in range(power):
        whole = whole @ spread
    return stretched((stretched(whole) @ heat.flatten()).reshape(heat.shape))


def masks(maps: Tensor, theta: float) -> Tensor:
    found = torch.zeros(maps.shape, dtype=torch.bool)
    for k, y, x in torch.cartesian_prod(*(torch.arange(n) for n in maps.shape)).tolist():
        found[k, y, x] = all(float(maps[k, y, x] - maps[j, y, x]) > theta for j in range(len(maps)) if j != k)
    return found


def divergence(p: Tensor, q: Tensor) -> float:
    a, b = (x.double().flatten().softmax(0).tolist() for x in (p, q))
    half = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
    one = sum(x * log(x / m) for x, m in zip(a, half, strict=True))
    two = sum(y * log(y / m) for y, m in zip(b, half, strict=True))
    return (one + two) / 2


def reconstruction(predicted: Tensor, target: Tensor, weight: Tensor, valid: Tensor) -> float:
    """The released sum over channels and pixels, one row."""
    total = sum(
        float(valid[y, x] * (predicted[c, y, x] * weight[y, x] - target[c, y, x] * weight[y, x]) ** 2)
        for c, y, x in torch.cartesian_prod(*(torch.arange(n) for n in predicted.shape)).tolist()
    )
    return total / float(valid.sum())
