"""Rotary position codes as data: the ids a host gave its tokens, and further rotations of what it rotated already.

Rotations compose: turning a rotated q by `angles(theta=b) - angles()` is the same as rotating raw q with base b. So q
and k after rotary stay the only operands, and a change of base, a shift of ids or no rotation is an edit of operands.
All hosts here pair neighbouring channels (2i, 2i + 1) and stack their axes one after the other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rotary:
    """The host's table: each token's place on each axis (0 0 0 leaves it unturned), base, channels of each axis."""

    ids: Float[Tensor, "n a"]
    theta: float
    axes_dim: tuple[int, ...]

    def angles(self, ids: Float[Tensor, "n a"] | None = None, theta: float | None = None) -> Float[Tensor, "n p"]:
        """Radians per token and pair p of channels, for these ids and this base (the host's where not given)."""
        ids = self.ids if ids is None else ids
        base = self.theta if theta is None else theta
        return torch.cat([ids[:, a, None] * _frequencies(d, base, ids) for a, d in enumerate(self.axes_dim)], dim=1)

    def turn(self, x: Float[Tensor, "b h n d"], angles: Float[Tensor, "n d//2"]) -> Float[Tensor, "b h n d"]:
        """Rotate each pair of channels of x further by `angles`."""
        return turn(x, angles)


def turn(x: Float[Tensor, "b h n d"], angles: Float[Tensor, "n d//2"]) -> Float[Tensor, "b h n d"]:
    """Rotate channel pairs (2i, 2i + 1) by `angles`; computed in float32 at least, returned in x's dtype."""
    even, odd = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos().to(even.dtype), angles.sin().to(even.dtype)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def _frequencies(d: int, theta: float, like: Tensor) -> Float[Tensor, " {d}//2"]:
    """theta ** (-2 i / d); float64 where the device has it, as the hosts compute theirs."""
    precise = torch.float32 if like.device.type in ("mps", "npu") else torch.float64
    return theta ** (-torch.arange(0, d, 2, dtype=precise, device=like.device) / d)
