"""DraftAttention's choice in plain loops, in float64: what the system is compared with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Table
from saccade.core.mechanism import Mechanism, Pairs, PlanItem
from saccade.core.site import Site
from saccade.core.state import Memory

Pool = tuple[int, int]


def regions(layout: Layout, pool: Pool) -> list[list[int]]:
    """Tokens of each patch: frame, row of patches, column."""
    image = layout.image
    assert image.grid is not None
    start, (frames, high, wide) = layout.span(image.name).start, image.grid
    return [
        [start + (f * high + y) * wide + x
         for y in range(i, min(i + pool[0], high)) for x in range(j, min(j + pool[1], wide))]
        for f in range(frames) for i in range(0, high, pool[0]) for j in range(0, wide, pool[1])
    ]  # fmt: skip


def chosen(q: Tensor, k: Tensor, scale: float, tokens: list[list[int]], sparsity: float, guard: bool) -> Tensor:
    """(g g) of one batch row and head."""
    low_q, low_k = (torch.stack([x[t].double().mean(0) for t in tokens]) for x in (q, k))
    draft = torch.softmax(low_q @ low_k.T * scale, dim=-1)
    dropped = int(sparsity * draft.numel())
    least = draft.min() if dropped == 0 else draft.flatten().sort().values[dropped - 1]
    keep = draft >= least
    if guard:
        for i in range(len(keep)):
            if not keep[i].any():
                keep[i, draft[i].argmax()] = True
    return keep


def table(call: AttentionCall, pool: Pool, sparsity: float, guard: bool = True) -> Table:
    """The mask of a call."""
    tokens, n = regions(call.layout_q, pool), call.layout_q.n
    label = torch.full((n,), len(tokens))
    for number, members in enumerate(tokens):
        label[members] = number
    count = len(tokens) + 1
    b, h = call.q.shape[:2]
    allow = torch.ones(b, h, count, count, dtype=torch.bool)
    for i in range(b):
        for j in range(h):
            q, k = call.q[i, j], call.k[i, j * call.k.shape[1] // h]
            allow[i, j, :-1, :-1] = chosen(q, k, float(call.scale), tokens, sparsity, guard)
    return Table(label, label, allow)


@dataclass(frozen=True, kw_only=True)
class Choosing(Mechanism):
    """The table of each call."""

    pool: Pool
    sparsity: float

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        return Pairs(mask=table(call, self.pool, self.sparsity))


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """The same as a system."""

    pool: Pool
    sparsity: float
    first: int = 0
    name: str = "by hand"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or clock.step < self.first:
            return ()
        return (Choosing(pool=self.pool, sparsity=self.sparsity),)
