"""Plain rewrites in float64: the grid of positions pixel by pixel, and a small encoder to hand in."""

from math import cos, sin
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.papers import DiffEye

TINY: dict[str, Any] = {
    "length": 16, "width": 16, "stages": (16, 24), "blocks": 1, "heads": 2, "groups": 4, "features": 5,
    "grid": (4, 4), "pixels": (32, 32),
}  # fmt: skip


def tiny(seed: int = 0, **changes: Any) -> DiffEye:
    torch.manual_seed(seed)
    return DiffEye(**{**TINY, **changes}).double().eval()


def inputs(
    rows: int = 3, seed: int = 0, sees: str = "patches", features: int = 5
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """x, t and a condition."""
    rng = torch.Generator().manual_seed(seed)
    tokens = 16 if sees == "patches" else 1
    image = torch.randn(rows, tokens, features, generator=rng, dtype=torch.float64)
    x = torch.randn(rows, 16, 2, generator=rng, dtype=torch.float64)
    return x, torch.randint(0, 1000, (rows,), generator=rng).double(), {"image": image}


def grid(height: int, width: int, channels: int) -> np.ndarray:
    """P (h w d), each number by its formula."""
    quarter = channels // 4
    rates = [10000 ** (-k / quarter) for k in range(quarter)]

    def wave(at: int) -> list[float]:
        return [sin(at * rate) for rate in rates] + [cos(at * rate) for rate in rates]

    return np.array([[wave(y) + wave(x) for x in range(width)] for y in range(height)])
