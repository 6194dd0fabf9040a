"""Lifetimes of keys as a mask, whose blocks are judged by the lifetimes in them: what block-sparse kernels run on."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.coarse import Judge, Verdict, both
from saccade.core.layout import Layout
from saccade.core.masks import CoarseRule, Device, Mask, Rule
from saccade.papers.dma.lifetimes import Lifetimes


@dataclass(frozen=True, eq=False)
class KeptKeys(Mask):
    """Query i sees key j while it is kept; keys appended later stay open.

    ratio   query heads of a key head
    A query that keeps none sees the key at its own place: padding, a mask of its own, closes that one.
    """

    found: Lifetimes
    ratio: int
    fleeting: ClassVar[bool] = True

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.found.until.shape[0], self.found.until.shape[1] * self.ratio

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        until, ahead, m = self._until(device), self.found.ahead, self.found.until.shape[2]
        last = max(m - 1, 0)

        def permits(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            place = q + ahead
            return (k <= place) & (place < until[b, h // self.ratio, k.clamp(max=last)])

        return lambda b, h, q, k: k < m + 0 * q, permits

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        until, ahead, m = self._until(device), self.found.ahead, self.found.until.shape[2]

        def judge(q: Tensor, k: Tensor) -> Judge:
            first_q, last_q = q.amin(-1) + ahead, q.amax(-1) + ahead
            ends = until[:, :, k.clamp(max=m - 1)].repeat_interleave(self.ratio, dim=1)  # (b h K c)
            first_k, last_k, longest, shortest = k.amin(-1), k.amax(-1), ends.amax(-1), ends.amin(-1)

            def alive(i: Tensor, j: Tensor) -> Verdict:
                some = (first_k[j] <= last_q[i]) & (first_q[i] < longest[:, :, j])
                return Verdict(some, (last_k[j] <= first_q[i]) & (last_q[i] < shortest[:, :, j]))

            return Judge(alive)

        every, places = (torch.arange(layout.n, device=device) for layout in (layout_q, layout_k))
        return both(every >= 0, places < m), judge

    def _until(self, device: Device) -> Int[Tensor, "b g m"]:
        """Lifetimes, where a query before all keys that are not padded keeps the key at its own place."""
        until, keep = self.found.until, self.found.keep
        if keep is not None:
            own = torch.arange(1, until.shape[2] + 1, device=until.device)
            until = torch.where(keep.cumsum(-1) > 0, until, own)
        return until.to(device or until.device)
