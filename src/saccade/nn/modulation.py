"""Shift, scale and gate of a block's two halves, from the condition; three ways to make them.

zero     a linear layer for each block, 6 d^2 + 6 d parameters, zero at first (adaLN-Zero)
single   one linear layer for the whole model, and a table for each block, 6 d (adaLN-single)
affine   the same with a second table that scales: b + T (1 + s), 12 d (AdaLN-affine)

Source: Peebles & Xie, DiT (2023); Chen et al., PixArt-alpha (2024); E-MMDiT (2025).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

ModulationKind = Literal["zero", "single", "affine"]


def modulate(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "b m d"], scale: Float[Tensor, "b m d"]
) -> Float[Tensor, "b n d"]:
    """x (1 + scale) + shift, for each sample (m = 1) or each token (m = n)."""
    return x * (1 + scale) + shift


def norm(width: int) -> nn.LayerNorm:
    """The norm before a modulation: nothing learned."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


class ZeroModulation(nn.Module):
    """`count` vectors from a condition, for each sample (b d) or each token (b n d); all zero at first."""

    steering: bool = True  # AdamW trains its matrices

    def __init__(self, width: int, count: int = 6, *, condition: int | None = None) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(condition or width, count * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, c: Float[Tensor, "b *n d"]) -> tuple[Float[Tensor, "b m w"], ...]:
        vectors = self.linear(nn.functional.silu(c))
        return (vectors if vectors.ndim == 3 else vectors[:, None]).chunk(self.count, dim=-1)


class TableModulation(nn.Module):
    """`count` vectors from those that all blocks share, and a table; `affine` learns how far to follow them."""

    steering: bool = True  # AdamW trains its matrices

    def __init__(self, width: int, count: int = 6, *, affine: bool = False) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(count, width) / width**0.5)
        self.scale = nn.Parameter(torch.randn(count, width) / width**0.5) if affine else None

    def forward(self, shared: Float[Tensor, "b kd"]) -> tuple[Float[Tensor, "b 1 d"], ...]:
        shared = shared.unflatten(-1, (-1, self.bias.shape[1]))[:, : len(self.bias)]
        followed = shared if self.scale is None else shared * (1 + self.scale)
        return (self.bias + followed).chunk(len(self.bias), dim=1)


class SharedModulation(nn.Module):
    """What every `TableModulation` of a model starts from: SiLU and one linear layer."""

    steering: bool = True  # AdamW trains its matrices

    def __init__(self, width: int, count: int = 6) -> None:
        super().__init__()
        self.linear = nn.Linear(width, count * width)

    def forward(self, c: Float[Tensor, "b d"]) -> Float[Tensor, "b kd"]:
        return self.linear(nn.functional.silu(c))


def block_modulation(kind: ModulationKind, width: int, count: int = 6) -> nn.Module:
    """A block's own part of the modulation."""
    return ZeroModulation(width, count) if kind == "zero" else TableModulation(width, count, affine=kind == "affine")
