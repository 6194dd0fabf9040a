"""What target rows take of their sources' attention outputs: a share of each token, or the nearest token's (step 3)."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal
from warnings import warn

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.core.call import AttentionCall
from saccade.core.layout import Grid, Layout
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Partial, Parts, whole
from saccade.core.state import Memory
from saccade.papers.diffuhaul.blobs import Blob
from saccade.papers.diffuhaul.carrying import Carried, carried

Features = Float[Tensor, "r h i d"]  # of target rows, or of their sources: outputs of image tokens, by head


@dataclass(frozen=True, kw_only=True)
class Anchor(Mechanism):
    """Target rows' outputs changed by those of their source rows, on image tokens.

    taken  the source's outputs of another forward under "o", a row for each target; empty where they are rows of this
    """

    taken: Mapping[str, Features] = field(default_factory=dict)
    acts_on: ClassVar[Literal["attention", "output"]] = "output"
    needs: ClassVar[frozenset[str]] = frozenset({"rows.target"})

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        assert call.rows is not None
        out, span = parts.total, call.layout_q.span(call.layout_q.image.name)
        targets = torch.tensor(call.rows.where("target"), device=out.device)
        if self.taken:
            theirs = self.taken["o"].to(out)
        else:
            theirs = out[[source for _, source in call.rows.pairs()]][:, :, span]
        rows = out[targets]
        image = self.anchored(rows[:, :, span], theirs, call.layout_q)
        rows = torch.cat((rows[:, :, : span.start], image, rows[:, :, span.stop :]), dim=2)
        return whole(Partial(out.index_copy(0, targets, rows), parts.lse))

    def anchored(self, own: Features, theirs: Features, layout: Layout) -> Features:
        """The target's features, anchored."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SoftAnchor(Anchor):
    """(1 - w) f_d + w f_s, token by token.

    weight  w in [0, 1], 0-d: its value is set for each step, outside of graphs
    way     the object's blobs in source and target, where its features move with it; None: all stay in place
    """

    weight: Float[Tensor, ""] = field(compare=False)
    way: tuple[Blob, Blob] | None = None
    ready: MutableMapping[Grid, Carried] = field(default_factory=dict, compare=False)

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """Find what stands where on this grid."""
        grid = layout_q.image.grid
        assert grid is not None
        if self.way is not None and grid not in self.ready:
            self.ready[grid] = carried(*self.way, grid)

    def anchored(self, own: Features, theirs: Features, layout: Layout) -> Features:
        weight = self.weight.to(own)
        if self.way is None:
            return torch.lerp(own, theirs, weight)
        assert layout.image.grid is not None
        moved = self.ready[layout.image.grid]
        theirs = theirs.index_select(2, moved.taken.to(own.device))
        return torch.lerp(own, theirs, weight * moved.weight.to(own).flatten()[:, None])


@dataclass(frozen=True, kw_only=True)
class NearestCopy(Anchor):
    """Within the dragged object, f_d(p) <- f_s(q) of the source token q of the object that is most like it.

    source, target  the object's blobs; where one covers no token of a grid nothing is copied, with a warning
    """

    source: Blob
    target: Blob
    ready: MutableMapping[Grid, tuple[Int[Tensor, " s"], Int[Tensor, " t"]]] = field(
        default_factory=dict, compare=False
    )

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """Find the object's tokens; warn once for a grid on which it has none."""
        grid = layout_q.image.grid
        assert grid is not None
        if grid in self.ready:
            return
        found = [blob.on((grid[1], grid[2])).flatten().repeat(grid[0]) for blob in (self.source, self.target)]
        if not all(mask.any() for mask in found):
            warn(f"{self.source.said} covers no token of a grid {grid}: nothing is copied there", stacklevel=2)
        source, target = (mask.nonzero()[:, 0] for mask in found)
        self.ready[grid] = source, target

    def anchored(self, own: Features, theirs: Features, layout: Layout) -> Features:
        assert layout.image.grid is not None
        source, target = (places.to(own.device) for places in self.ready[layout.image.grid])
        if not len(source) or not len(target):
            return own
        theirs = theirs[:, :, source]
        taken = nearest(tokens(own[:, :, target]), tokens(theirs))[:, None, :, None]
        copied = theirs.gather(2, taken.expand(-1, own.shape[1], -1, own.shape[3]))
        return own.index_copy(2, target, copied)


def tokens(features: Features) -> Float[Tensor, "r i c"]:
    """Each token's features of all heads in a row."""
    return features.transpose(1, 2).flatten(2)


def nearest(own: Float[Tensor, "r p c"], theirs: Float[Tensor, "r q c"]) -> Int[Tensor, "r p"]:
    """The number of the token of `theirs` that is most like each of `own`, by cosine."""
    one, other = (F.normalize(x.float() if x.dtype != torch.float64 else x, dim=-1) for x in (own, theirs))
    return (one @ other.transpose(1, 2)).argmax(-1)
