"""A mask between a few runs of tokens as dense calls: each run of queries attends to the runs of keys it sees.

No pair is computed that the mask forbids, and none is masked: every call is plain dense attention, which fused kernels
take at full speed. For masks of verdicts between regions whose tokens stand together, the same for all rows and heads.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.partial import Partial
from saccade.core.regions import Partition, Regions
from saccade.ops import sdpa
from saccade.ops.operands import too_short
from saccade.ops.split_mask import Fixed, split_mask

NAME = "spans"
MOST = 32  # runs of queries; more are better served in blocks
MIN_TOKENS = 1024  # queries and keys; below, one masked launch takes less than several
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Queries from `start` to `stop` and the keys that all of them see, as spans in order."""

    queries: Span
    keys: tuple[Span, ...]

    @property
    def pairs(self) -> int:
        """How many it computes."""
        return _size(self.queries) * sum(_size(span) for span in self.keys)


def refuses(call: AttentionCall, *, want_lse: bool = False) -> list[str]:
    """No fixed mask by regions, one that differs by row or head, a bias, or tokens in too many runs."""
    reasons, fixed = sdpa.refuses(call, want_lse=want_lse), split_mask(call).fixed
    if call.bias is not None:
        reasons.append("a bias is not cut into runs")
    if fixed is None or fixed.bound.regions is None:
        reasons.append("no mask by regions fixed before the call")
    elif fixed.bound.regions.allow.shape[:2] != (1, 1):
        reasons.append("the mask differs by batch row or head")
    elif torch.compiler.is_compiling() and NAME not in fixed.memo:
        reasons.append("the mask was not prepared outside the graph; call ops.prepare first")
    elif not _runs(fixed):
        reasons.append(f"regions lie in more than {MOST} runs of tokens")
    return reasons


def unprofitable(call: AttentionCall) -> list[str]:
    """Too short."""
    return too_short(call, MIN_TOKENS)


def ready(call: AttentionCall) -> None:
    """Find the runs."""
    if (fixed := split_mask(call).fixed) is not None:
        _runs(fixed)


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Run by run. Cost: 2 (d + dv) FLOPs an allowed pair, plus copies of the keys where they are no single span."""
    parts = [sdpa.run(_part(call, each), want_lse=want_lse) for each in found_runs(call)]
    lse = torch.cat([part.lse for part in parts if part.lse is not None], dim=2) if want_lse else None
    return Partial(torch.cat([part.out for part in parts], dim=2), lse)


def flops(call: AttentionCall) -> int:
    """2 (d + dv) for each allowed pair."""
    b, h, _, d = call.q.shape
    return 2 * b * h * sum(each.pairs for each in found_runs(call)) * (d + call.v.shape[-1])


def bytes(call: AttentionCall) -> int:
    """q and out once, and keys and values as often as a run reads them, copied first where they are several spans."""
    b, h, n, d = call.q.shape
    wide = d + call.v.shape[-1]
    read = sum(sum(_size(span) for span in each.keys) * (3 if len(each.keys) > 1 else 1) for each in found_runs(call))
    return b * (h * n + call.k.shape[1] * read) * wide * call.q.element_size()


def found_runs(call: AttentionCall) -> tuple[Run, ...]:
    """The runs of a call's mask, in order. Raises ValueError where it has none."""
    fixed = split_mask(call).fixed
    found = () if fixed is None else _runs(fixed)
    if not found:
        raise ValueError("spans needs a mask by regions whose tokens stand together; ask `refuses` first")
    return found


def _runs(fixed: Fixed) -> tuple[Run, ...]:
    regions, m = fixed.bound.regions, fixed.bound.m
    if regions is None:
        return ()
    return fixed.once(NAME, lambda: _found(regions, m))


def _found(regions: Regions, m: int) -> tuple[Run, ...]:
    """Runs of queries that see the same, neighbours joined; empty where there are too many."""
    region, spans = runs_of(regions.partition)
    if not spans:
        return ()
    allow = regions.allow[0, 0].tolist()
    found: list[Run] = []
    for own, q in zip(spans, region, strict=True):
        seen = [span for span, k in zip(spans, region, strict=True) if allow[q][k]]
        keys = joined([*seen, (regions.partition.n, m)])  # keys beyond the partition are open
        if found and found[-1].keys == keys:
            own = (found.pop().queries[0], own[1])
        found.append(Run(queries=own, keys=keys))
    return tuple(found) if len(found) <= MOST else ()


@lru_cache(maxsize=64)
def runs_of(partition: Partition) -> tuple[tuple[int, ...], tuple[Span, ...]]:
    """The region of each run of tokens of one region, and where it lies; empty where there are too many."""
    region, counts = torch.unique_consecutive(partition.label, return_counts=True)
    if len(region) > 4 * MOST:
        return (), ()
    ends = counts.cumsum(0).tolist()
    return tuple(region.tolist()), tuple(zip([0, *ends], ends, strict=False))


def joined(spans: list[Span]) -> tuple[Span, ...]:
    """Spans in order, empty ones left out and touching ones as one."""
    found: list[Span] = []
    for start, stop in spans:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        if stop > start:
            found.append((start, stop))
    return tuple(found)


def _part(call: AttentionCall, each: Run) -> AttentionCall:
    """The dense call of one run; padding goes with its keys."""
    keep = split_mask(call).keep
    k, v = (_taken(x, each.keys, dim=2) for x in (call.k, call.v))
    return call.replace(
        q=call.q[:, :, slice(*each.queries)], k=k, v=v, layout_q=Layout.plain(_size(each.queries)),
        layout_k=Layout.plain(k.shape[2]), groups=None, host=None,
        mask=None if keep is None else KeyPadding(_taken(keep, each.keys, dim=1)),
    )  # fmt: skip


def _taken(x: Tensor, spans: tuple[Span, ...], dim: int) -> Tensor:
    parts = [x.narrow(dim, start, stop - start) for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _size(span: Span) -> int:
    return span[1] - span[0]
