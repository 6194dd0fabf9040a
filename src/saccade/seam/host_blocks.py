"""What a host's block mask lets through: blocks seen whole, and blocks in which its code decides pair by pair."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.coarse import Judge, Verdict
from saccade.core.features import Features, features
from saccade.core.labels import label_coarse, label_rule, labels
from saccade.core.layout import Layout
from saccade.core.masks import CoarseRule, Device, Mask, Rule
from saccade.core.regions import Partition, Regions

Code = Callable[[Tensor, Tensor, Tensor, Tensor], Any]  # (b, h, q, k) -> whether the pair is seen
TOGETHER = 1 << 22  # pairs that the code is asked for at once


@dataclass(frozen=True, eq=False)
class HostBlocks(Mask):
    """Verdicts between blocks of tokens; keys appended later stay open.

    whole, part     (b|1 h|1 Q K) blocks all of whose pairs are seen, and those in which `code` decides
    of_q, of_k      the block of each query and key, one object where they are the same tokens
    code            None where no block asks it
    """

    whole: Bool[Tensor, "b h Q K"]
    part: Bool[Tensor, "b h Q K"]
    of_q: Partition
    of_k: Partition
    code: Code | None

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.whole.shape[0], self.whole.shape[1]

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        at, last = self._labels(layout_q, layout_k, device), self.of_k.n - 1
        names, whole = label_rule(*at, self.whole.to(device))
        if self.code is None:
            return names, whole
        (_, part), code = label_rule(*at, self.part.to(device)), self.code
        return names, lambda b, h, q, k: whole(b, h, q, k) | part(b, h, q, k) & code(b, h, q, k.clamp(max=last))

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        at = self._labels(layout_q, layout_k, device)
        names, whole = label_coarse(*at, self.whole.to(device))
        _, some = label_coarse(*at, (self.whole | self.part).to(device))

        def permits(q: Tensor, k: Tensor) -> Judge:
            sure, perhaps = whole(q, k), some(q, k)
            return Judge(lambda i, j: Verdict(perhaps(i, j).some, sure(i, j).every))

        return names, permits

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        if self.code is not None:
            return super().features(layout_q, layout_k)
        label_q, label_k = self._labels(layout_q, layout_k, None)
        return features(q=label_q, k=label_k, n=layout_q.n, m=layout_k.n)

    def by_regions(self, layout_q: Layout, layout_k: Layout) -> Regions | None:
        known = self.code is None and self.of_q is self.of_k and layout_q.n == self.of_q.n
        return Regions(self.of_q, self.whole) if known else None

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Any, k: Any) -> None:
        return None

    def of_heads(self, heads: Int[Tensor, " h"]) -> "HostBlocks":
        """The mask of some heads, which its code knows by their numbers."""
        if self.mask_dims[1] == 1:
            return self
        whole, part = (x.index_select(1, heads) for x in (self.whole, self.part))
        code = self.code
        own = None if code is None else lambda b, h, q, k: code(b, heads[h], q, k)
        return replace(self, whole=whole, part=part, code=own)

    def seen(self) -> Bool[Tensor, "b m"]:
        """The keys that some query sees; code is asked in mixed blocks alone, outside a graph."""
        found = self.whole.any(1).any(1)[:, self.of_k.label]
        if self.code is None:
            return found
        if torch.compiler.is_compiling():
            return self._every_pair().any(1).any(1)
        for at in self.part.nonzero().split(max(TOGETHER // self._pairs, 1)):
            found = found | self._asked(at)
        return found

    @property
    def _pairs(self) -> int:
        """Pairs of the largest block."""
        return int(self.of_q.sizes.max()) * int(self.of_k.sizes.max())

    def _every_pair(self) -> Bool[Tensor, "b h n m"]:
        sizes, device = (*self.mask_dims, self.of_q.n, self.of_k.n), self.whole.device
        places = (torch.arange(size, device=device) for size in sizes)
        at = [x.reshape([-1 if axis == i else 1 for axis in range(4)]) for i, x in enumerate(places)]
        _, permits = self.rule(Layout.plain(self.of_q.n), Layout.plain(self.of_k.n), device)
        return permits(*at).expand(sizes)

    def _asked(self, at: Int[Tensor, "p 4"]) -> Bool[Tensor, "b m"]:
        """Keys seen in these mixed blocks."""
        b, h, i, j = at.T
        (q, in_q), (k, in_k) = _members(self.of_q, i), _members(self.of_k, j)
        verdict = self.code(b[:, None, None], h[:, None, None], q[:, :, None], k[:, None])  # type: ignore[misc]
        seen = (verdict & in_q[:, :, None] & in_k[:, None]).any(1)
        count = torch.zeros(len(self.whole), self.of_k.n, dtype=torch.int64, device=seen.device)
        return count.index_put((b[:, None].expand_as(k), k), seen.long(), accumulate=True) > 0

    def _labels(self, layout_q: Layout, layout_k: Layout, device: Device) -> tuple[Tensor, Tensor]:
        return labels(self.of_q.label, layout_q.n, device), labels(self.of_k.label, layout_k.n, device)


def _members(of: Partition, block: Int[Tensor, " p"]) -> tuple[Int[Tensor, "p s"], Bool[Tensor, "p s"]]:
    """The tokens of these blocks, and which of them are there where a block is shorter than the longest."""
    order = of.label.argsort(stable=True)
    starts, most = of.sizes.cumsum(0) - of.sizes, torch.arange(int(of.sizes.max()), device=block.device)
    there = most < of.sizes[block][:, None]
    return order[(starts[block][:, None] + most).clamp(max=of.n - 1)], there
