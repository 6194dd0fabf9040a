"""Attention to a narrow window, mended by two statistics of an earlier dense step (Re-ttention)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Literal

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.masks import Mask
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.re_ttention.raster_window import RasterWindow
from saccade.papers.re_ttention.statistics import TakeStatistics, UseStatistics

Compat = Literal["official"]
Phase = Literal["dense", "take", "sparse"]


@dataclass(frozen=True, kw_only=True)
class ReTtention:
    """Dense steps at first and every `period` steps; between them each query attends to a window, mended.

    keep      share of a frame's tokens in the window, in (0, 1]; the paper: 1/32 and 1/16
    dense     share of the steps, from the first, that are dense, in [0, 1]; 1 is bitwise the host
    period    from one dense step to the next after these; 1 is bitwise the host
    ramp      added to the window's share of the softmax for each sparse step since the last dense one, 0 or above
    clamp     keep that share at 1 or below
    ratio     scale by the share; False with the residual is the baseline that adds the whole difference (DiTFastAttn)
    residual  add what the other keys gave; False with ratio=False is the plain window
    mask      any other mask that does not change, in the place of the window
    compat    "official" ramps also rows whose window held everything, as text
    where     sites and share of the steps; cross-attention only with a `mask` and where=at(kind="cross")
    Raises ValueError for options out of range.
    """

    keep: float = 1 / 32
    dense: float = 0.25
    period: int = 5
    ramp: float = 0.04
    clamp: bool = False
    ratio: bool = True
    residual: bool = True
    mask: Mask | None = None
    compat: Compat | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(keep=self.keep, dense=self.dense, period=self.period, ramp=self.ramp)
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep} must be in (0, 1], a share of a frame's tokens")
        if not 0 <= self.dense <= 1:
            raise ValueError(f"dense={self.dense} must be in [0, 1], the share of the steps that are dense at first")
        if not self.period >= 1 or self.period % 1:
            raise ValueError(f"period={self.period} must be a whole number of steps, at least 1; 1 is dense")
        if not (self.ramp >= 0 and isfinite(self.ramp)):
            raise ValueError(f"ramp={self.ramp} must be 0 or above; 0 leaves the shares as they were")
        if self.compat not in (None, "official"):
            raise ValueError(f"compat='{self.compat}' must be 'official' or None")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")
        if "cross" in self.where.kinds and self.mask is None:
            raise ValueError(
                "where.kinds holds 'cross', whose keys have no places in a raster; give mask=, queries by keys, "
                "or choose joint and self sites"
            )

    @property
    def name(self) -> str:
        return "re_ttention"

    @property
    def timed(self) -> bool:
        """The plan depends on the step, so a host must tell it."""
        return self.dense < 1 and self.period > 1

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not (self.where.covers(site) and self.where.active(clock)):
            return ()
        phase, mends = self.phase(clock.step, clock.num_steps, clock.first), self.ratio or self.residual
        if phase == "sparse":
            return (self.window, self._use) if mends else (self.window,)
        return (self.window, self._take) if phase == "take" and mends else ()

    def phase(self, step: int, num_steps: int, first: int = 0) -> Phase:
        """What a step does: dense, dense and takes statistics, or sparse. `first`: the step the model began with."""
        since = step - max(self.first_taken(num_steps), first)  # one that begins later takes them at once
        if since < 0:
            return "dense"
        if since % self.period:
            return "sparse"
        return "take" if self.period > 1 and step < num_steps - 1 else "dense"  # nobody reads the last step's

    def first_taken(self, num_steps: int) -> int:
        """The step, from 0, that takes the first statistics: the first after those that are only dense."""
        return int(num_steps * self.dense + 1e-9)  # a share that is whole up to rounding counts as whole

    def full_steps(self, num_steps: int) -> int:
        """How many of the steps are dense, with statistics or without."""
        return sum(self.phase(step, num_steps) != "sparse" for step in range(num_steps))

    @cached_property
    def window(self) -> Mask:
        """The mask of sparse steps."""
        return RasterWindow(self.keep) if self.mask is None else self.mask

    @cached_property
    def _take(self) -> TakeStatistics:
        return TakeStatistics(window=self.window, ratio=self.ratio)

    @cached_property
    def _use(self) -> UseStatistics:
        return UseStatistics(
            window=self.window, ramp=self.ramp if self.ratio else 0.0, ramp_all=self.compat == "official",
            clamp=self.clamp, residual=self.residual,
        )  # fmt: skip


PRESETS: Mapping[str, ReTtention] = {
    "pixart": ReTtention(dense=5 / 20),
    "hunyuan_dit": ReTtention(dense=10 / 50),
    "cogvideox": ReTtention(dense=15 / 50),
}  # as published, of which the number of steps is free
