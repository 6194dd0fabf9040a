"""Record, step by step, what some rows of the map say of each head: where it looks, how far, how sharply.

Rows are whole, by the lse of the kernel, so that everything but the choice of queries is exact; r rows of m keys are
held at most, and fewer where those are many.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.mechanisms.by_step import StepRows
from saccade.mechanisms.key_columns import watched
from saccade.mechanisms.recorded_words import looked_at, note_layouts
from saccade.ops.columns import HELD, allowed_pairs, key_columns

MEANS = ("entropy", "own", "before", "distance")  # over queries, of each head
TOP, TOP_KEY, SHARES, RECEIVED, TILES = "top", "top_key", "shares", "received", "tiles"
NAMES = (*MEANS, TOP, TOP_KEY, SHARES, RECEIVED, TILES)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledRows(Mechanism):
    """Keeps, each with an axis of steps before these:

    entropy    (b h) nats
    own        (b h) share of a query's own key; 0 in cross-attention
    before     (b h) share of the key before it in the sequence
    distance   (b h) mean distance to the keys of its own grid (or sequence), over that of equal shares
    shares     (b h s) of the keys of each segment
    top, top_key  (b h) the largest mean share of one key, and which it is
    received   (b m) mean share of each key, over heads
    tiles      (b r c) share of each of c runs of keys, by query, over heads

    count  queries, spread evenly over those that `looked_at` names
    """

    rows: StepRows
    count: int = 128
    columns: int = 64
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        assert parts.lse is not None
        note_layouts(call, mem)
        at = spread(looked_at(call.layout_q)[0], self.count).to(call.q.device)
        step = max(HELD // (call.q.shape[0] * call.q.shape[1] * call.k.shape[2]), 1)
        runs = [_Run(call, run, parts.lse[:, :, run], self.columns) for run in at.split(step)]
        sums = {name: _mean([getattr(run, name) for run in runs], len(at)) for name in (*MEANS, SHARES, "keys")}
        top, key = sums["keys"].max(-1)
        found = {
            **{name: sums[name] for name in (*MEANS, SHARES)},
            TOP: top, TOP_KEY: key.to(top.dtype), RECEIVED: sums["keys"].mean(1),
            TILES: torch.cat([run.tiles for run in runs], 1),
        }  # fmt: skip
        kept = watched(call.rows, call.q.shape[0])
        for name, value in found.items():
            self.rows.keep(mem, name, value[kept])


def spread(span: slice, count: int) -> Int[Tensor, " r"]:
    """`count` places of a span, or all of a shorter one, in the middles of equal runs."""
    n = span.stop - span.start
    count = min(count, n)
    return span.start + (2 * torch.arange(count) + 1) * n // (2 * count)


class _Run:
    """Sums over a run of queries; each is (b h ...), `tiles` (b r c)."""

    def __init__(self, call: AttentionCall, at: Int[Tensor, " r"], lse: Tensor, columns: int) -> None:
        m = call.k.shape[2]
        every = torch.arange(m, device=at.device)
        shares = key_columns(call, lse, every[None], at[None])
        own, reaches = at + _ahead(call.layout_q, call.layout_k), call.site.kind != "cross"
        self.entropy = -torch.special.xlogy(shares, shares).sum((-1, -2))
        self.own = _paid(shares, own) * reaches
        self.before = _paid(shares, own - 1) * reaches
        self.distance = _distances(call, shares, at, own) if reaches else self.own
        self.shares = torch.stack([part.sum((-1, -2)) for part in shares.split(_lengths(call.layout_k), -1)], -1)
        self.keys = shares.sum(2)
        mean = shares.mean(1)
        self.tiles = mean.new_zeros(*mean.shape[:2], columns).index_add(2, every * columns // m, mean)


def _mean(sums: list[Tensor], count: int) -> Tensor:
    return torch.stack(sums).sum(0) / count


def _lengths(layout: Layout) -> list[int]:
    return [segment.n for segment in layout.segments]


def _ahead(layout_q: Layout, layout_k: Layout) -> int:
    """Where the queries' own keys begin: at the first key, or, of a sequence that grows, so that both end alike."""
    same = layout_k.segments[: len(layout_q.segments)] == layout_q.segments
    return 0 if same else max(layout_k.n - layout_q.n, 0)


def _paid(shares: Float[Tensor, "b h r m"], keys: Int[Tensor, " r"]) -> Float[Tensor, "b h"]:
    """The sum of what each query pays to one key, none to those before the first or after the last."""
    there = (keys >= 0) & (keys < shares.shape[-1])
    at = keys.clamp(0, shares.shape[-1] - 1).expand(*shares.shape[:2], -1)[..., None]
    return (shares.gather(-1, at)[..., 0] * there).sum(-1)


def _distances(
    call: AttentionCall, shares: Float[Tensor, "b h r m"], at: Int[Tensor, " r"], own: Int[Tensor, " r"]
) -> Float[Tensor, "b h"]:
    """The sum over queries of the mean distance to keys of their own kind, over what equal shares would give."""
    span, grid = looked_at(call.layout_k)
    keys = torch.arange(span.start, span.stop, device=at.device)
    if grid is None:
        far = (own[:, None] - keys).abs().to(shares)
    else:
        far = torch.cdist(
            call.layout_q.coords(at.device)[at].to(shares), call.layout_k.coords(at.device)[span].to(shares)
        )
    near = shares[..., span]
    seen = allowed_pairs(call, keys[None], at[None])
    open_ = torch.ones_like(near[:1, :1]) if seen is None else seen.to(shares)
    mean, equal = ((weight * far).sum(-1) / weight.sum(-1).clamp(min=1e-12) for weight in (near, open_))
    return torch.where(equal > 0, mean / equal.clamp(min=1e-12), 0.0).sum(-1)
