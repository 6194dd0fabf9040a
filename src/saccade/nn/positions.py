"""Positions on n-d grids: fixed sine-cosine tables, and rotations.

A picture's table holds the column index in its first half of the channels and the row index in its second, each half
[sin(w p) | cos(w p)] with w_k = 10000^(-k / (d/4)), k = 0 .. d/4 - 1, as in the official DiT.

Source: Vaswani et al. (2017); Dosovitskiy et al., ViT (2021); Su et al., RoFormer (2021).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

BASE = 10000.0


def axis_table(positions: Float[Tensor, " n"], width: int) -> Float[Tensor, "n width"]:
    """[sin | cos] of positions along one axis, computed in double precision.

    Raises ValueError for an odd width.
    """
    if width % 2:
        raise ValueError(f"width={width} of a sine-cosine table must be even")
    angles = positions.double()[:, None] * _frequencies(width // 2, positions.device)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


def grid_table(
    grid: Sequence[int], width: int, *, scale: float = 1.0, start: Sequence[float] | None = None
) -> Float[Tensor, "n width"]:
    """The table of an n-d grid, the last axis in the first channels; a cell's place is `start + scale * index`.

    Raises ValueError for a width that the axes cannot share.
    """
    share = width // len(grid)
    if width % (2 * len(grid)):
        raise ValueError(
            f"width={width} must be a multiple of {2 * len(grid)}: sine and cosine for each of {len(grid)} axes"
        )
    places = grid_places(grid, scale=scale, start=start)
    return torch.cat([axis_table(axis, share) for axis in reversed(places.unbind(-1))], dim=-1)


def grid_places(
    grid: Sequence[int], *, scale: float = 1.0, start: Sequence[float] | None = None
) -> Float[Tensor, "n axes"]:
    """Coordinates of every cell, row-major."""
    begins = start or (0.0,) * len(grid)
    lines = [begin + scale * torch.arange(size, dtype=torch.float64) for begin, size in zip(begins, grid, strict=True)]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flatten(0, -2).float()


def rotary_table(places: Float[Tensor, "n axes"], channels: Sequence[int]) -> Float[Tensor, "2 n e"]:
    """cos and sin for `rotate`: `channels[a]` of a head's channels turn with the place along axis a.

    Raises ValueError unless channels holds an even number for each axis.
    """
    if any(each % 2 for each in channels) or len(channels) != places.shape[-1]:
        raise ValueError(f"channels={tuple(channels)} must be one even number for each of {places.shape[-1]} axes")
    angles = [
        axis.double()[:, None] * _frequencies(each // 2, places.device)
        for axis, each in zip(places.unbind(-1), channels, strict=True)
    ]
    turned = torch.cat(angles, dim=-1).repeat_interleave(2, dim=-1)
    return torch.stack((turned.cos(), turned.sin())).float()


def rotate(x: Float[Tensor, "*b n e"], table: Float[Tensor, "2 n e"]) -> Float[Tensor, "*b n e"]:
    """Turn neighbouring pairs of channels by their position."""
    cos, sin = table.to(x)
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)
    return x * cos + turned * sin


def split_channels(width: int, axes: int) -> tuple[int, ...]:
    """A head's channels shared out evenly over axes, in even numbers; what is left over goes to the last axes."""
    pairs, more = divmod(width // 2, axes)
    return tuple(2 * (pairs + (axis >= axes - more)) for axis in range(axes))


def _frequencies(count: int, device: torch.device) -> Float[Tensor, " count"]:
    return BASE ** -(torch.arange(count, dtype=torch.float64, device=device) / count)
