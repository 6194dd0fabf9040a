"""Attention between the regions that a draft of this very call finds strongest."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import Mask
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.state import Memory
from saccade.mechanisms.region_grid import RegionGrid
from saccade.ops.split_mask import split_mask
from saccade.papers.draft_attention.draft import Guard, Pool, Pooling, draft_map, guarded, keep_strongest, patches

BLOCK = 128  # tokens of a block of the official kernel


@dataclass(frozen=True, kw_only=True)
class DraftRegions(Mechanism):
    """Regions of the grid see those the draft keeps; text, and keys appended by others, see and are seen by all.

    sparsity  share of the pairs of regions dropped, by batch row and head
    pool      rows and columns of a region
    pooling   how queries and keys become one
    guard     which key region each region keeps in any case; None for none
    strict    refuse what the official code refuses: grids that are no whole patches, regions that are no kernel block
    """

    sparsity: float
    pool: Pool
    pooling: Pooling = "mean"
    guard: Guard | None = "best"
    strict: bool = False

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError without a grid, for keys of another sequence, and for what `strict` refuses."""
        grid, own = layout_q.image.grid, layout_q.segments
        assert grid is not None
        if layout_k.segments[: len(own)] != own:
            raise ValueError(
                f"keys are {layout_k.describe()} and queries {layout_q.describe()}; a draft is of attention of a "
                "sequence to itself: choose such sites"
            )
        if self.strict and (grid[1] % self.pool[0] or grid[2] % self.pool[1]):
            raise ValueError(
                f"a grid of {grid[0]} x {grid[1]} x {grid[2]} tokens is no whole number of patches pool={self.pool}; "
                "choose another size, or strict=False for smaller patches at the border"
            )

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        """The mask of this call."""
        with torch.no_grad():
            return Pairs(mask=between_patches(self._allowed(call), call, self.pool))

    def _allowed(self, call: AttentionCall) -> Bool[Tensor, "b h g g"]:
        image = call.layout_q.image
        span = call.layout_q.span(image.name)
        assert image.grid is not None
        q, k = call.q[:, :, span], call.k[:, :, span]
        draft = draft_map(q, k, call.scale, image.grid, self.pool, self.pooling)
        keep = keep_strongest(draft, self.sparsity)
        if self.guard is not None:
            keep = guarded(keep, draft, self.guard)
        return guarded(keep, draft, "diagonal") if _is_masked(call) else keep


def between_patches(allow: Bool[Tensor, "#b h g g"], call: AttentionCall, pool: Pool) -> Mask | None:
    """Verdicts between the patches of a call's grid as its mask, all other tokens open; None where all are."""
    layout = call.layout_q
    if layout.n > layout.image.n:
        allow = torch.nn.functional.pad(allow, (0, 1, 0, 1), value=True)
    return RegionGrid(patches(layout, pool, call.q.device), allow).lowered(layout, call.layout_k)


def _is_masked(call: AttentionCall) -> bool:
    """Whether another mask, beside padding, may forbid all that the draft keeps."""
    seen = split_mask(call)
    return seen.fixed is not None or seen.loose is not None
