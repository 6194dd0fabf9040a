"""Masks as an open-world algebra: a mask forbids only pairs of tokens it names.

Every mask is two predicates on (batch, head, query, key): which pairs it *names*, and which of those it *permits*.
A pair it does not name stays open, so keys appended later (memory, pooled, references) are never cut off by accident.

    a & b      a pair passes if both let it pass
    a | b      a pair passes if either lets it pass (so a pair one of them does not name stays open)
    inverse()  permits what was refused and refuses what was permitted, among the named pairs; twice gives the mask back

`bind` ties a mask to layouts and a device; the `Bound` answers by token, by block and in exact counts. For long
sequences a mask may offer shortcuts: `coarse` decides whole blocks, `features` says what a verdict depends on, so that
blocks alike are looked at once, and `count_pairs` counts two segments in closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.blocks import Bound
from saccade.core.coarse import Coarse, Judge, Verdict, always, both, unknown
from saccade.core.features import Features, features
from saccade.core.labels import label_coarse, label_rule, labels, member, num_rows, pick
from saccade.core.layout import Layout, Segment
from saccade.core.regions import Regions
from saccade.core.rules import allowed, conjoin, disjoin, opposite

Predicate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Rule = tuple[Predicate, Predicate]  # names, permits
CoarseRule = tuple[Coarse, Coarse]  # the same two for whole blocks
Device = torch.device | str | None


class Mask:
    """Base of the algebra. Leaves implement `rule`, and `mask_dims` where they distinguish batch rows or heads.

    fleeting  whether it is made anew in each forward, so that little is gained by preparing from it
    """

    fleeting: ClassVar[bool] = False

    @property
    def mask_dims(self) -> tuple[int, int]:
        """Batch rows and heads; 1 where all share one map."""
        return 1, 1

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        """The predicates `names` and `permits` on (b, h, q, k) index tensors that broadcast."""
        raise NotImplementedError

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        """What is surely true of whole blocks; nothing, unless the mask says so."""
        return unknown, unknown

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        """What a verdict depends on; the very tokens, unless the mask says less."""
        n, m = layout_q.n, layout_k.n
        return features(q=torch.arange(n), k=torch.arange(m), n=n, m=m)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        """Pairs let through between two segments, in closed form; None where that is not known."""
        one = torch.zeros(1, dtype=torch.int64)
        verdict = allowed(self.coarse(layout_q, layout_k, None))(_block(layout_q, q), _block(layout_k, k))(one, one)
        return q.n * k.n if verdict.every.all() else None if verdict.some.any() else 0

    def by_regions(self, layout_q: Layout, layout_k: Layout) -> Regions | None:
        """The mask as verdicts between regions, whose blocks kernels need not seek; None where it is none."""
        return None

    def __and__(self, other: "Mask") -> "Mask":
        return And(self, other)

    def __or__(self, other: "Mask") -> "Mask":
        return Or(self, other)

    def inverse(self) -> "Mask":
        """The same pairs named, with the verdict turned round."""
        return Inverse(self)

    def bind(self, layout_q: Layout, layout_k: Layout, device: Device = None) -> Bound:
        """Tie the mask to the tokens of two layouts."""
        batch, heads = self.mask_dims
        return Bound(
            allowed(self.rule(layout_q, layout_k, device)),
            n=layout_q.n, m=layout_k.n, batch=batch, heads=heads, device=torch.device(device or "cpu"),
            coarse=allowed(self.coarse(layout_q, layout_k, device)),
            closed=self._closed(layout_q, layout_k),
            features=lambda: self.features(layout_q, layout_k),
            regions=self.by_regions(layout_q, layout_k),
        )  # fmt: skip

    def _closed(self, layout_q: Layout, layout_k: Layout) -> int | None:
        if self.mask_dims != (1, 1):
            return None
        counts = [self.count_pairs(layout_q, layout_k, q, k) for q in _filled(layout_q) for k in _filled(layout_k)]
        return None if None in counts else sum(n for n in counts if n is not None)

    def materialize(self, layout_q: Layout, layout_k: Layout, device: Device = None) -> Bool[Tensor, "b h n m"]:
        """The whole map; for tests and small sequences."""
        return self.bind(layout_q, layout_k, device).token()


@dataclass(frozen=True)
class _Two(Mask):
    """What is made of two masks."""

    a: Mask
    b: Mask

    @property
    def mask_dims(self) -> tuple[int, int]:
        (batch_a, heads_a), (batch_b, heads_b) = self.a.mask_dims, self.b.mask_dims
        return max(batch_a, batch_b), max(heads_a, heads_b)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self.a.features(layout_q, layout_k) + self.b.features(layout_q, layout_k)


class _Changed(Mask):
    """What is made of one mask."""

    inner: Mask

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.inner.mask_dims

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self.inner.features(layout_q, layout_k)


@dataclass(frozen=True)
class And(_Two):
    """Both masks must let a pair pass."""

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return conjoin(*(m.rule(layout_q, layout_k, device) for m in (self.a, self.b)))

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return conjoin(*(m.coarse(layout_q, layout_k, device) for m in (self.a, self.b)))

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        a, b = (m.count_pairs(layout_q, layout_k, q, k) for m in (self.a, self.b))
        if a == 0 or b == 0:
            return 0
        return a if b == q.n * k.n else b if a == q.n * k.n else None


@dataclass(frozen=True)
class Or(_Two):
    """Either mask may let a pair pass; a pair only one of them names is open."""

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return disjoin(*(m.rule(layout_q, layout_k, device) for m in (self.a, self.b)))

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return disjoin(*(m.coarse(layout_q, layout_k, device) for m in (self.a, self.b)))


@dataclass(frozen=True)
class Inverse(_Changed):
    """The named pairs with the verdict turned round."""

    inner: Mask

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return opposite(self.inner.rule(layout_q, layout_k, device))

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return opposite(self.inner.coarse(layout_q, layout_k, device))

    def inverse(self) -> Mask:
        return self.inner


@dataclass(frozen=True)
class Among(_Changed):
    """`inner`, restricted to queries `q` and keys `k`, each a segment kind or name."""

    q: str
    k: str
    inner: Mask

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        in_q, in_k = member(layout_q, self.q, device), member(layout_k, self.k, device)
        names, permits = self.inner.rule(layout_q, layout_k, device)
        return lambda b, h, q, k: in_q[q] & in_k[k] & names(b, h, q, k), permits

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        chosen = both(member(layout_q, self.q, device), member(layout_k, self.k, device))
        names, permits = self.inner.coarse(layout_q, layout_k, device)
        return lambda q, k: chosen(q, k) & names(q, k), permits

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self.inner.features(layout_q, layout_k) + _members(self.q, self.k, layout_q, layout_k)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        chosen = self.q in (q.kind, q.name) and self.k in (k.kind, k.name)
        return self.inner.count_pairs(layout_q, layout_k, q, k) if chosen else q.n * k.n


@dataclass(frozen=True)
class Forbid(Mask):
    """No query of `q` sees a key of `k`."""

    q: str
    k: str

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        in_q, in_k = member(layout_q, self.q, device), member(layout_k, self.k, device)
        return lambda b, h, q, k: in_q[q] & in_k[k], lambda b, h, q, k: (in_q[q] & in_k[k]) & False

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        chosen = both(member(layout_q, self.q, device), member(layout_k, self.k, device))
        return chosen, lambda q, k: ~always(q, k)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return _members(self.q, self.k, layout_q, layout_k)


@dataclass(frozen=True)
class OnHeads(_Changed):
    """`inner` on some of `count` heads; the others stay open.

    Raises ValueError for options out of range.
    """

    inner: Mask
    heads: tuple[int, ...]
    count: int

    def __post_init__(self) -> None:
        if bad := [h for h in self.heads if not 0 <= h < self.count]:
            raise ValueError(f"heads={bad} must lie in 0..{self.count - 1} at this site")

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.inner.mask_dims[0], self.count

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        chosen = self._chosen(device)
        names, permits = self.inner.rule(layout_q, layout_k, device)
        return lambda b, h, q, k: chosen[h] & names(b, h, q, k), permits

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        names, permits = self.inner.coarse(layout_q, layout_k, device)
        chosen = self._chosen(device)

        def on_heads(i: Tensor, j: Tensor) -> Verdict:
            at = chosen.reshape(-1, *[1] * i.ndim)[None]
            return Verdict(at, at)

        return lambda q, k: Judge(on_heads) & names(q, k), permits

    def _chosen(self, device: Device) -> Bool[Tensor, " h"]:
        return torch.tensor([h in self.heads for h in range(self.count)], device=device)


@dataclass(frozen=True, eq=False)
class Table(Mask):
    """Verdicts between classes of tokens: block patterns, groups, documents, regions, all in one.

    label_q (b? n) and label_k (b? m) number each token's class, -1 for tokens it does not name; allow (b? h? Q K)
    holds the verdicts. Keys past the end of `label_k` (appended later) are not named.
    Raises ValueError for options out of range.
    """

    label_q: Int[Tensor, "*b n"]
    label_k: Int[Tensor, "*b m"]
    allow: Bool[Tensor, "*bh Q K"]

    def __post_init__(self) -> None:
        q, k = (int(label.max()) if label.numel() else -1 for label in (self.label_q, self.label_k))
        if q >= self.allow.shape[-2] or k >= self.allow.shape[-1]:
            raise ValueError(
                f"labels up to ({q}, {k}) exceed the table allow {tuple(self.allow.shape)}; "
                "it needs a row and a column per label"
            )

    @property
    def mask_dims(self) -> tuple[int, int]:
        allow = self.allow[(None,) * (4 - self.allow.ndim)]
        return max(allow.shape[0], num_rows(self.label_q), num_rows(self.label_k)), allow.shape[1]

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return label_rule(*self._labels(layout_q, layout_k, device), self.allow.to(device))

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        """Blocks of a single class on either side are judged by its verdict."""
        return label_coarse(*self._labels(layout_q, layout_k, device), self.allow.to(device))

    def _labels(self, layout_q: Layout, layout_k: Layout, device: Device) -> tuple[Tensor, Tensor]:
        return labels(self.label_q, layout_q.n, device), labels(self.label_k, layout_k.n, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        label_q, label_k = self._labels(layout_q, layout_k, None)
        return features(q=label_q, k=label_k, n=layout_q.n, m=layout_k.n)


@dataclass(frozen=True, eq=False)
class KeyPadding(Mask):
    """Keys with keep = False are seen by nobody: a host's padding mask (b m)."""

    keep: Bool[Tensor, "b m"]

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.keep.shape[0], 1

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        keep = labels(self.keep, layout_k.n, device, fill=True)
        return lambda b, h, q, k: torch.ones_like(q + k, dtype=torch.bool), lambda b, h, q, k: pick(keep, b, k)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        keep = labels(self.keep, layout_k.n, device, fill=True)
        return always, both(torch.ones(layout_q.n, dtype=torch.bool, device=device), keep)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return features(k=labels(self.keep, layout_k.n, None, fill=True), n=layout_q.n, m=layout_k.n)


@dataclass(frozen=True, eq=False)
class Lowered(Mask):
    """A mask bound to its layouts, with room for what kernels prepare; made between steps, used inside graphs."""

    mask: Mask
    layout_q: Layout
    layout_k: Layout
    bound: Bound
    ready: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.mask.mask_dims

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return self.mask.rule(layout_q, layout_k, device)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return self.mask.coarse(layout_q, layout_k, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self.mask.features(layout_q, layout_k)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        return self.mask.count_pairs(layout_q, layout_k, q, k)


def lower(mask: Mask | None, layout_q: Layout, layout_k: Layout, device: Device = None) -> Lowered | None:
    """Bind a fixed mask; None where it lets every pair pass. Not for use inside a graph."""
    if mask is None:
        return None
    bound = mask.bind(layout_q, layout_k, device)
    return None if bound.pairs() == bound.total else Lowered(mask, layout_q, layout_k, bound)


def among(q: str, k: str, inner: Mask) -> Mask:
    """Apply `inner` only from queries `q` to keys `k` (segment kinds or names)."""
    return Among(q, k, inner)


def forbid(q: str, k: str) -> Mask:
    """Cut all pairs from queries `q` to keys `k` (segment kinds or names)."""
    return Forbid(q, k)


def _members(q: str, k: str, layout_q: Layout, layout_k: Layout) -> Features:
    return features(q=member(layout_q, q), k=member(layout_k, k), n=layout_q.n, m=layout_k.n)


def _filled(layout: Layout) -> tuple[Segment, ...]:
    return tuple(s for s in layout.segments if s.n)


def _block(layout: Layout, segment: Segment) -> Int[Tensor, "1 n"]:
    """A whole segment as one block."""
    span = layout.span(segment.name)
    return torch.arange(span.start, span.stop)[None]
