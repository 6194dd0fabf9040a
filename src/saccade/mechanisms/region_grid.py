"""Verdicts between regions of tokens as a mask that may be made anew in every call, at next to no cost."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.core.features import Features, features
from saccade.core.labels import label_coarse, label_rule, labels
from saccade.core.layout import Layout
from saccade.core.masks import CoarseRule, Device, Mask, Rule, lower
from saccade.core.regions import Partition, Regions


@dataclass(frozen=True, eq=False)
class RegionGrid(Mask):
    """Self-attention by regions: allow (b|1 h|1 R R) says which region's queries see which region's keys.

    Keys beyond the partition (appended later) stay open.
    Raises ValueError for a table of another size.
    """

    partition: Partition
    allow: Bool[Tensor, "b h R R"]

    def __post_init__(self) -> None:
        if self.allow.shape[2:] != (self.partition.count,) * 2:
            raise ValueError(
                f"allow {tuple(self.allow.shape)} does not fit {self.partition.count} regions; "
                "give (batch, heads, regions, regions)"
            )

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.allow.shape[0], self.allow.shape[1]

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return label_rule(*self._labels(layout_q, layout_k, device), self.allow.to(device))

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return label_coarse(*self._labels(layout_q, layout_k, device), self.allow.to(device))

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        label_q, label_k = self._labels(layout_q, layout_k, None)
        return features(q=label_q, k=label_k, n=layout_q.n, m=layout_k.n)

    def by_regions(self, layout_q: Layout, layout_k: Layout) -> Regions | None:
        if layout_q.n != self.partition.n:
            return None
        return Regions(self.partition, self.allow)

    def lowered(self, layout_q: Layout, layout_k: Layout) -> Mask | None:
        """Bound to its layouts outside a graph, so that nothing of it outlives the call; as it is inside one."""
        if torch.compiler.is_compiling():
            return self
        return lower(self, layout_q, layout_k, self.allow.device)

    def _closed(self, layout_q: Layout, layout_k: Layout) -> None:
        return None

    def _labels(self, layout_q: Layout, layout_k: Layout, device: Device) -> tuple[Tensor, Tensor]:
        label = self.partition.label
        return labels(label, layout_q.n, device), labels(label, layout_k.n, device)
