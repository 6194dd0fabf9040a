"""Block patterns as a mask: verdicts between blocks of tokens, per batch row and head."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.coarse import Coarse, Judge, Verdict, both
from saccade.core.layout import Layout
from saccade.core.masks import CoarseRule, Device, Lowered, Mask, Rule, lower
from saccade.core.state import Memory

LOWERED = "mask"  # key in memory


@dataclass(frozen=True, eq=False)
class BlockGrid(Mask):
    """allow (b|1 h|1 Q K): verdicts between blocks of `block` tokens, over the first `n` queries and keys."""

    allow: Bool[Tensor, "b h Q K"]
    block: int
    n: int

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.allow.shape[0], self.allow.shape[1]

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        allow, (batch, heads), last = self.allow.to(device), self.mask_dims, self.allow.shape[2] - 1

        def permits(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            row, column = (torch.clamp(i // self.block, max=last) for i in (q, k))
            return allow[b * (batch > 1), h * (heads > 1), row, column]

        return lambda b, h, q, k: (q < self.n) & (k < self.n), permits

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        """By counting the open blocks in the rectangle that spans a block of tokens: exact for runs of tokens."""
        named = [torch.arange(layout.n, device=device) < self.n for layout in (layout_q, layout_k)]
        return both(*named), self._spanned(device)

    def _spanned(self, device: Device) -> Coarse:
        counts = torch.nn.functional.pad(self.allow.to(device, torch.int32).cumsum(2).cumsum(3), (1, 0, 1, 0))

        def judge(q: Tensor, k: Tensor) -> Judge:
            (top, bottom), (left, right) = self._ends(q), self._ends(k)

            def verdict(i: Tensor, j: Tensor) -> Verdict:
                upto = [counts[:, :, edge[i], right[j]] - counts[:, :, edge[i], left[j]] for edge in (bottom, top)]
                open_ = upto[0] - upto[1]
                return Verdict(open_ > 0, open_ == (bottom - top)[i] * (right - left)[j])

            return Judge(verdict)

        return judge

    def _ends(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """First block of each set of tokens, and the one after the last."""
        last = self.allow.shape[2] - 1
        at = torch.clamp(tokens // self.block, max=last)
        return at.amin(-1), at.amax(-1) + 1

    def _closed(self, layout_q: Layout, layout_k: Layout) -> int:
        starts = torch.arange(0, self.n, self.block, device=self.allow.device)
        sizes = (self.n - starts).clamp(max=self.block)
        named = (self.allow * sizes[:, None] * sizes).sum()
        return int(named) + (layout_q.n * layout_k.n - self.n**2) * self.allow.shape[0] * self.allow.shape[1]


def lowered(blocks: Bool[Tensor, "b h Q K"], block: int, call: AttentionCall, mem: Memory) -> Lowered | None:
    """The mask of these very blocks for the tokens of a call, as it is kept, or made now: a graph keeps none."""
    if mem.has(LOWERED):
        of, layout_k, mask = mem.get(LOWERED)
        if of is blocks and layout_k == call.layout_k:
            return mask
    mask = lower(BlockGrid(blocks, block, call.layout_q.n), call.layout_q, call.layout_k, blocks.device)
    mem.put(LOWERED, (blocks, call.layout_k, mask))
    return mask


def share_open(blocks: Bool[Tensor, "b h Q K"], block: int, n: int) -> Float[Tensor, ""]:
    """Share of the n x n pairs that lie in open blocks, the last of which may be short."""
    sizes = (n - torch.arange(0, n, block, device=blocks.device)).clamp(max=block).double()
    return (blocks * sizes[:, None] * sizes).sum((2, 3)).mean() / n**2
