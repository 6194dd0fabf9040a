"""The object's tokens move with it: what stands where on a grid, for hosts whose keys hang on places.

Our addition. Where keys are rotated by their place, a target that shares the source's keys finds the object where it
was; so here the object's keys and values are those of the source's tokens, rotated on by its way, and the place it
leaves keeps the target's own.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Grid, Layout
from saccade.core.mechanism import Mechanism
from saccade.core.state import Memory
from saccade.mechanisms.shared_operands import SharedOperands
from saccade.papers.diffuhaul.blobs import Blob, way


@dataclass(frozen=True, eq=False)
class Carried:
    """On the image tokens of a grid.

    taken   the number of the source's token that each token takes: its own but within the object's new place
    weight  1 where the source's is taken, 0 on the place that is left
    """

    taken: Int[Tensor, " n"]
    weight: Float[Tensor, "t h w"]


def carried(source: Blob, target: Blob, grid: Grid) -> Carried:
    """Of the tokens the object touches, moved by whole tokens; what would leave the grid is left out."""
    frames, *sides = grid
    old = source.touched((sides[0], sides[1]))
    rows, columns = (torch.arange(side) for side in sides)
    down, across = way(source, target, (sides[0], sides[1]))
    y, x = rows[:, None] - down, columns[None, :] - across
    inside = (y >= 0) & (y < sides[0]) & (x >= 0) & (x < sides[1])
    y, x = y.clamp(0, sides[0] - 1), x.clamp(0, sides[1] - 1)
    new = inside & old[y, x]
    own = torch.arange(sides[0] * sides[1]).reshape(sides[0], sides[1])
    taken = torch.where(new, y * sides[1] + x, own).flatten()
    every = torch.cat([taken + frame * taken.numel() for frame in range(frames)])
    return Carried(every, (~(old & ~new)).float().expand(frames, *sides))


@dataclass(frozen=True, kw_only=True)
class CarriedOperands(Mechanism):
    """`SharedOperands` of k and v, the object's from its old place.

    taped  k and v of a source that is not among the rows
    """

    source: Blob
    target: Blob
    taped: Mapping[str, Float[Tensor, "r h n c"]] = field(default_factory=dict)
    ready: MutableMapping[Grid, SharedOperands] = field(default_factory=dict, compare=False)
    needs: ClassVar[frozenset[str]] = frozenset({"rows.target", "host.raw"})
    takes_rows: ClassVar[bool] = True

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """Find what stands where on this grid."""
        grid = layout_q.image.grid
        assert grid is not None
        if grid not in self.ready:
            found = carried(self.source, self.target, grid)
            weights = dict.fromkeys("kv", found.weight[None])
            self.ready[grid] = SharedOperands(weights=weights, taken=found.taken[None], turned=True)

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        assert call.layout_q.image.grid is not None
        return replace(self.ready[call.layout_q.image.grid], taped=self.taped).operands(call, mem)
