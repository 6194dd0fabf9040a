"""Conditional residual blocks of convolutions, on maps or on sequences.

    h = conv(silu(norm(x))) + linear(silu(c));    x' = conv(silu(norm(h))) + x   (1x1 conv of x where the width changes)

Sources: Ho et al., DDPM (2020); Rombach et al., latent diffusion (2022).
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.part import TokenPositions, sides, to_map, to_tokens
from saccade.nn.steering import steers

GROUPS = 32
Axes = Literal[1, 2]


class ConvResidual(nn.Module):
    """One block from `width` to `out` channels; the narrower of the two inside.

    Raises ValueError for widths that the groups do not divide.
    """

    def __init__(self, width: int, out: int, condition: int, *, axes: Axes = 2) -> None:
        super().__init__()
        for name, value in (("width", width), ("out", out)):
            if value % GROUPS:
                raise ValueError(f"{name}={value} must be a multiple of {GROUPS}, the groups of a convolution's norm")
        conv, inner = (nn.Conv1d, nn.Conv2d)[axes - 1], min(width, out)
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, width), nn.GroupNorm(GROUPS, inner)
        self.conv1, self.conv2 = conv(width, inner, 3, padding=1), conv(inner, out, 3, padding=1)
        self.condition = steers(nn.Linear(condition, inner))
        self.skip = conv(width, out, 1) if width != out else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c *n"], c: Float[Tensor, "b k"], keep: Bool[Tensor, "b 1 *n"] | None = None
    ) -> Float[Tensor, "b e *n"]:
        """`keep`: places that are there; what stands elsewhere is neither read nor counted."""
        h = self.conv1(_only(F.silu(group_norm(self.norm1, x, keep)), keep))
        h = h + self.condition(F.silu(c)).view(*h.shape[:2], *[1] * (h.ndim - 2))
        h = self.conv2(_only(F.silu(group_norm(self.norm2, h, keep)), keep))
        return h + self.skip(x)


class ConvStack(nn.Module):
    """Blocks on tokens, then RMSNorm.

    widths          of the tokens before the first block and after each
    axes            2: on the grid of the place; 1: on its sequences
    condition_norm  a trained LayerNorm on the condition, for blocks whose condition comes from another model
    """

    def __init__(
        self, widths: tuple[int, ...], condition: int, *, axes: Axes = 2, condition_norm: bool = False
    ) -> None:
        super().__init__()
        self.axes = axes
        self.condition_norm = nn.LayerNorm(condition) if condition_norm else nn.Identity()
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.ModuleList(ConvResidual(a, b, condition, axes=axes) for a, b in pairs)
        self.norm = nn.RMSNorm(widths[-1], eps=1e-5)

    def forward(
        self, x: Float[Tensor, "b n c"], c: Float[Tensor, "b k"], place: TokenPositions
    ) -> Float[Tensor, "b n e"]:
        keep = None if place.keep is None else place.keep[:, None]
        normed = self.condition_norm(c)
        h = to_map(x, sides(place, x.shape[1], "a convolution")) if self.axes == 2 else x.mT
        for block in self.blocks:
            h = block(h, normed, keep)
        return self.norm(to_tokens(h) if self.axes == 2 else h.mT)


def group_norm(
    norm: nn.GroupNorm, x: Float[Tensor, "b c *n"], keep: Bool[Tensor, "b 1 *n"] | None = None
) -> Float[Tensor, "b c *n"]:
    """`norm(x)` with the mean and variance of kept places only; elsewhere whatever comes out."""
    if keep is None:
        return norm(x)
    parts, there = x.flatten(2).unflatten(1, (norm.num_groups, -1)).float(), keep.flatten(2)[:, None]
    count = there.sum((2, 3), keepdim=True) * parts.shape[2]
    mean = (parts * there).sum((2, 3), keepdim=True) / count
    variance = ((parts - mean).square() * there).sum((2, 3), keepdim=True) / count
    scaled = ((parts - mean) * torch.rsqrt(variance + norm.eps)).flatten(1, 2).to(x.dtype)
    return (scaled * norm.weight[:, None] + norm.bias[:, None]).view(x.shape)


def _only(x: Float[Tensor, "b c *n"], keep: Bool[Tensor, "b 1 *n"] | None) -> Float[Tensor, "b c *n"]:
    """Zero where nothing is, as beyond the ends of a sequence."""
    return x if keep is None else x * keep
