"""Attraction to near image tokens whose strength every query token learns, per head.

    bias[b, h, i, j] = -alpha[b, h, i] |x_i - x_j|^2,   alpha[b, h, i] = slice h of hidden[b, i] . weight
d + 2 columns, alpha on the query side, so gradients reach `weight` and whatever made `hidden`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.state import Memory
from saccade.ops.exact_factors import distance_factors


@dataclass(frozen=True, kw_only=True)
class LearnedDistance(Mechanism):
    """weight (c / heads): one linear map shared by the heads, from each head's slice of what enters the attention.

    unit: "side" of the picture (the longer one) or "token". Text and appended keys get no bias.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"host.hidden"})

    weight: Float[Tensor, " c"]
    unit: Literal["side", "token"] = "side"

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        alpha = token_strength(call.host.hidden, self.weight, heads=call.q.shape[1])
        base = Layout(call.layout_k.segments[: len(call.layout_q.segments)])  # appended keys come last
        x, y = (_places(layout, self.unit, alpha) for layout in (call.layout_q, base))
        bias = distance_factors(x, y)
        inside = [layout.is_("image", alpha.device)[:, None] for layout in (call.layout_q, base)]
        return Pairs(bias=LowRank(alpha * bias.phi_q * inside[0], bias.phi_k * inside[1]))

    def density(self, mem: Memory) -> float:
        return 1.0


def token_strength(
    hidden: Float[Tensor, "b n hc"], weight: Float[Tensor, " c"], *, heads: int
) -> Float[Tensor, "b {heads} n 1"]:
    """alpha: each head's slice of each token against one weight; negative where the token prefers far keys.

    Raises ValueError for a weight of another length.
    """
    if hidden.shape[-1] != heads * len(weight):
        raise ValueError(
            f"weight has {len(weight)} entries; {heads} heads over {hidden.shape[-1]} channels need "
            f"{hidden.shape[-1] // heads}"
        )
    return (hidden.unflatten(-1, (heads, -1)) @ weight.to(hidden)).transpose(1, 2)[..., None]


def _places(layout: Layout, unit: str, like: Tensor) -> Float[Tensor, "n 3"]:
    """Centred (t, y, x) of image tokens, zeros for others; made of plain operations, since this runs inside graphs."""
    grid = layout.image.grid or (1, 1, 1)
    longer = max(grid[1:]) if unit == "side" else 1
    lengths = (grid[0] if unit == "side" else 1, longer, longer)
    axes = [_axis(side, length, like) for side, length in zip(grid, lengths, strict=True)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    parts = [places if s.name == layout.image.name else places.new_zeros(s.n, 3) for s in layout.segments]
    return torch.cat(parts)


def _axis(side: int, length: int, like: Tensor) -> Float[Tensor, " side"]:
    steps = torch.arange(side, dtype=like.dtype, device=like.device)
    return (steps - (side - 1) / 2) / length
