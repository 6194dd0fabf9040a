"""Rotary positions of any base or angles, neighbouring channels being a pair."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.nn.positions import BASE, rotate


def angles(width: int, base: float = BASE) -> Float[Tensor, " pairs"]:
    """theta_k = base^(-2k / width), the turn of each pair of channels from one token to the next.

    Raises ValueError for an odd width or a base that is not above 0.
    """
    if width % 2 or width < 2:
        raise ValueError(f"width={width} of rotary heads must be even: two channels for each angle")
    if not base > 0:
        raise ValueError(f"base={base} must be above 0")
    return base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


def rotated(
    x: Float[Tensor, "*b n d"], base: float = BASE, theta: Sequence[float] | None = None
) -> Float[Tensor, "*b n d"]:
    """Channels turned by each token's place, from 0; `theta` gives the angles themselves.

    Raises ValueError for an odd width, and for another number of angles than half the width.
    """
    found = angles(x.shape[-1], base)
    if theta is not None:
        if len(theta) != len(found):
            raise ValueError(f"theta has {len(theta)} angles for {len(found)} pairs of channels; give one for each")
        found = torch.tensor(list(theta), dtype=torch.float64)
    turned = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * found
    turned = turned.repeat_interleave(2, dim=-1)
    return rotate(x, torch.stack((turned.cos(), turned.sin())))


def rotary_scores(
    q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b n d"], base: float = BASE, theta: Sequence[float] | None = None
) -> Float[Tensor, "*b n n"]:
    """q_i R(i - j) k_j / sqrt(d), the scores of `attention_map`."""
    return rotated(q, base, theta) @ rotated(k, base, theta).mT * q.shape[-1] ** -0.5


def sinusoid(n: int, width: int) -> Float[Tensor, "{n} {width}"]:
    """sin and cos of a place in turns: channel 2k holds sin(i theta_k), 2k + 1 cos(i theta_k).

    Raises ValueError for an odd width.
    """
    turned = torch.arange(n, dtype=torch.float64)[:, None] * angles(width)
    return torch.stack((turned.sin(), turned.cos()), dim=-1).flatten(1).float()
