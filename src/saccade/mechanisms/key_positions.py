"""Keys at other positions than the host gave them, while queries keep theirs: what does a layer need positions for?

The host's rotation is turned further (`host.rotary`), so the keys stay the only operand that changes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.state import Memory

Shift = tuple[float, float, float]  # (t, y, x)


@dataclass(frozen=True, kw_only=True)
class KeyPositions(Mechanism):
    """Rotate keys by moved position ids, or not at all.

    shift    (t, y, x) added to the ids of image keys; None takes the rotation of all keys away
    of_grid  the shift is in shares of the grid's sides, taken as whole places, at least one
    text     shift the text's keys too
    Queries stay rotated, so without rotation of keys scores depend on where the query is, not on nothing.
    """

    shift: Shift | None = None
    of_grid: bool = False
    text: bool = False
    needs: ClassVar[frozenset[str]] = frozenset({"host.rotary"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where keys are not the tokens of the queries, or have no image grid."""
        if layout_k.segments[: len(layout_q.segments)] != layout_q.segments:
            raise ValueError(f"keys {layout_k.describe()} are other tokens than queries {layout_q.describe()}")
        if self.shift is not None:
            _ = layout_q.image

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        rotary = call.host.rotary
        further = -rotary.angles() if self.shift is None else rotary.angles(self._ids(call, rotary.ids))
        return call.replace(k=rotary.turn(call.k, further))

    def _ids(self, call: AttentionCall, ids: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
        """What is added to each token's ids; angles are linear in them. Hosts of pictures may have two axes."""
        shift = self.places(call.layout_q)
        axes = ids.shape[1]
        if any(shift[: 3 - axes]):
            raise ValueError(f"shift={shift} moves in time, which the {axes} axes of '{call.site.name}' do not have")
        moved = torch.zeros_like(ids)
        tokens = slice(None) if self.text else call.layout_q.span(call.layout_q.image.name)
        moved[tokens] = moved.new_tensor(shift[3 - axes :])
        return moved

    def places(self, layout: Layout) -> Shift:
        """The shift in places of this grid."""
        assert self.shift is not None and layout.image.grid is not None
        if not self.of_grid:
            return self.shift
        t, y, x = (_whole(share * side) for share, side in zip(self.shift, layout.image.grid, strict=True))
        return t, y, x


def _whole(places: float) -> float:
    """Rounded away from zero where it would vanish."""
    return float(round(places) or (places > 0) - (places < 0))
