"""The paper's window: a share of a picture's tokens in raster order; on a video that of a frame, in every frame."""

from dataclasses import dataclass
from functools import reduce

from saccade.core.features import Features
from saccade.core.layout import Layout, Segment
from saccade.core.masks import And, CoarseRule, Device, Mask, Rule, among
from saccade.core.places import RasterBand, need_grid


@dataclass(frozen=True)
class RasterWindow(Mask):
    """Image tokens see those at most int(keep m) // 2 raster places away, with m tokens in a frame; text stays dense.

    keep  share of a frame's tokens, in (0, 1]; windows are cut off at the ends, not moved inwards
    Raises ValueError for options out of range, and for grids of which a window keeps less than a token.
    """

    keep: float

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return self.band(layout_q, layout_k).rule(layout_q, layout_k, device)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return self.band(layout_q, layout_k).coarse(layout_q, layout_k, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self.band(layout_q, layout_k).features(layout_q, layout_k)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        return self.band(layout_q, layout_k).count_pairs(layout_q, layout_k, q, k)

    def band(self, layout_q: Layout, layout_k: Layout) -> Mask:
        """The same for these tokens: a band on each image grid, as wide as the grid's frames ask for."""
        need_grid(self, layout_q, layout_k)
        grids = [s for s in layout_q.of("image") if s.grid is not None]
        bands = [among(s.name, s.name, RasterBand(self._reach(s))) for s in grids]
        return reduce(And, bands[1:], bands[0])

    def _reach(self, segment: Segment) -> int:
        assert segment.grid is not None
        frame = segment.grid[1] * segment.grid[2]
        if int(frame * self.keep) < 1:
            raise ValueError(
                f"keep={self.keep} of the {frame} tokens in a frame of '{segment.name}' is less than one token; "
                f"give at least {1 / frame:.4g}"
            )
        return int(frame * self.keep) // 2
