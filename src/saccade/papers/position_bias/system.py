"""Rollout of a model at work: q and k of every layer are kept, and rows of the rollout follow without n x n maps.

with attach(model, watch := RolloutRecorder()) as run:
    model(ids)
    row = watch.influence(run.state)[:, 0]     (b n), how much the last token owes to each
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.analysis.rollout import ROW_ERROR, Share, shares
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Parts
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.state import Memory, MemoryBank
from saccade.ops.columns import HELD, key_scores

CALLS = "calls"


@dataclass(frozen=True, kw_only=True)
class RolloutRecorder:
    """Keep the attention calls of the last forward; outputs stay bitwise what they are.

    where   sites and share of the steps; cross-attention is left out
    Kept are q and k: layers x n x channels, no map. Read `influence(run.state)` before the next forward and before
    detaching.
    Raises ValueError where `where` names heads: a rollout takes all.
    """

    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        if self.where.heads is not None:
            raise ValueError(
                f"where.heads={self.where.heads} would leave heads out of the mean; roll out `maps` instead"
            )

    @property
    def name(self) -> str:
        return "position_bias"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return (KeepCall(),)

    def influence(
        self, state: MemoryBank, rows: Sequence[int] = (-1,), *, residual: Share | None = None
    ) -> Float[Tensor, "b r n"]:
        """Rows of the rollout of the last forward, heads averaged in every layer; float64.

        rows      tokens asked, negative ones from the end
        residual  share of attention in each layer, 1/2 for one stream that layers are added to alike; None for 1
        Raises StateError before a forward, and for one whose queries are not its keys, as in decoding from a cache;
        ValueError for a token that is padding or out of range.
        Cost: layers x n^2 x channels, r x n numbers beside runs of the map.
        """
        kept = self.calls(state)
        b, n, q = kept[0].q.shape[0], kept[0].q.shape[2], kept[0].q
        asked = torch.tensor(_places(rows, n), device=q.device)
        found = F.one_hot(asked, n).double().expand(b, -1, -1)
        for call, share in zip(reversed(kept), shares(residual, len(kept)).flip(0).tolist(), strict=True):
            found = share * _through(found, call) + (1 - share) * found
        off = float((found.sum(-1) - 1).abs().max())
        if off > ROW_ERROR * len(kept):
            raise ValueError(f"rows={tuple(rows)} names padding, or other keys were added; a row misses 1 by {off:.2g}")
        return found

    def maps(self, state: MemoryBank) -> list[Float[Tensor, "b h n n"]]:
        """Every layer's map by head, for `rollout`: n x n numbers each, so for short texts.

        Raises StateError as `influence` does.
        """
        return [torch.cat([part for _, part in _runs(call)], dim=2) for call in self.calls(state)]

    def calls(self, state: MemoryBank) -> list[AttentionCall]:
        """Calls of the last forward, first layer first. Raises StateError where there are none that fit together."""
        kept: list[AttentionCall] = [*state.forward.get(self.name, {}).get(CALLS, {}).values()]
        if not kept:
            raise StateError("no site was watched yet; run the model first, and read before detaching")
        sizes = {(call.q.shape[2], call.k.shape[2]) for call in kept}
        if len(sizes) != 1 or len(set(*sizes)) != 1:
            raise StateError(
                f"calls have (queries, keys) {sorted(sizes)}, and a rollout needs the same tokens in all layers; give "
                "the whole text in one forward (use_cache=False), and choose layers of one size by where="
            )
        return kept


@dataclass(frozen=True, kw_only=True)
class KeepCall(Mechanism):
    """Puts the call, without its values, into the memory of the forward."""

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        bare = call.replace(q=call.q.detach(), k=call.k.detach(), v=call.v[..., :0].detach(), host=None, groups=None)
        mem.forward.setdefault(CALLS, {})[call.site.name] = bare


def _through(rows: Float[Tensor, "b r n"], call: AttentionCall) -> Float[Tensor, "b r n"]:
    """rows times the mean map of one layer, a run of queries at a time."""
    found = torch.zeros_like(rows)
    for run, part in _runs(call):
        found = found + rows[:, :, run] @ part.mean(1)
    return found


def _runs(call: AttentionCall) -> Iterator[tuple[slice, Tensor]]:
    """Runs of queries, each with its rows (b h r n) of the map; a row that sees nothing, as padding may, is zero."""
    n, every = call.q.shape[2], torch.arange(call.k.shape[2], device=call.q.device)[None]
    step = max(HELD // (call.q.shape[0] * call.q.shape[1] * n), 1)
    runs = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    return ((run, key_scores(call, every, run).double().softmax(-1).nan_to_num(0.0)) for run in runs)


def _places(rows: Sequence[int], n: int) -> list[int]:
    if not rows or any(not -n <= row < n for row in rows):
        raise ValueError(f"rows={tuple(rows)} must be tokens from {-n} to {n - 1}, at least one")
    return [row % n for row in rows]
