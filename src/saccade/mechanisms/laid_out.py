"""A mask that can only be made where the tokens are known: asked for by layout and device, and kept for both."""

from functools import cached_property

from saccade.core.blocks import Bound
from saccade.core.features import Features
from saccade.core.layout import Layout
from saccade.core.masks import CoarseRule, Device, Mask, Rule
from saccade.core.regions import Regions


class LaidOut(Mask):
    """Self-attention whose mask follows from the queries' layout; subclasses are frozen dataclasses and give `on`."""

    def on(self, layout: Layout, device: Device) -> Mask:
        """The mask over these tokens, its tensors on the device. Raises ValueError for tokens it does not fit."""
        raise NotImplementedError

    def bind(self, layout_q: Layout, layout_k: Layout, device: Device = None) -> Bound:
        return self._made(layout_q, device).bind(layout_q, layout_k, device)

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return self._made(layout_q, device).rule(layout_q, layout_k, device)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return self._made(layout_q, device).coarse(layout_q, layout_k, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self._made(layout_q, None).features(layout_q, layout_k)

    def by_regions(self, layout_q: Layout, layout_k: Layout) -> Regions | None:
        return self._made(layout_q, None).by_regions(layout_q, layout_k)

    def _made(self, layout: Layout, device: Device) -> Mask:
        key = layout, str(device or "cpu")
        if key not in self._kept:
            self._kept[key] = self.on(layout, device)
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[Layout, str], Mask]:
        return {}
