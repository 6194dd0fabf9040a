"""What `saccade bench clear` compares on a model: discs, and windows and pooled keys of like cost."""

from dataclasses import dataclass

import torch

from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Mask, forbid
from saccade.core.mechanism import PlanItem, System
from saccade.core.places import Windows
from saccade.core.site import Site
from saccade.core.stack import make_plan
from saccade.papers.clear import Clear
from saccade.papers.clear.linear_attention import LinearAttention
from saccade.papers.clear.log_scale import LogScale
from saccade.papers.clear.pooled_keys import PooledKeys


@dataclass(frozen=True, kw_only=True)
class InWindows:
    """Image tokens see text and their own window, size x size; windows do not overlap."""

    size: int

    @property
    def name(self) -> str:
        return "windows"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (Windows(self.size),)


@dataclass(frozen=True, kw_only=True)
class PooledOnly:
    """Image tokens see text and the image's keys averaged over size x size patches, none of the keys themselves."""

    size: int

    @property
    def name(self) -> str:
        return "pooled only"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (_BLIND, PooledKeys(size=self.size))


@dataclass(frozen=True, kw_only=True)
class Proportional:
    """Dense attention with the scale that follows the logarithm of the number of keys."""

    trained: int

    @property
    def name(self) -> str:
        return "proportional"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (LogScale(trained=self.trained),)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Image tokens see every token through features instead of softmax."""

    @property
    def name(self) -> str:
        return "linear"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (LinearAttention(),)


_BLIND: Mask = forbid("image", "image")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to attend; `family` and `reach` (tokens) group arms in plots, `scaled` tells the proportional scale."""

    label: str
    family: str
    reach: float | None = None
    scaled: bool = False
    system: System | None = None

    @property
    def systems(self) -> tuple[System, ...]:
        """What to attach."""
        return () if self.system is None else (self.system,)

    def share(self, layout: Layout) -> float:
        """Pairs computed over those of dense attention; pooled keys count too, and features form no pairs."""
        if isinstance(self.system, Linear):
            return layout.text_n / layout.n
        site = Site(name="count", kind="joint")
        items = {s.name: s.plan(site, Clock()) for s in self.systems}
        plan = make_plan(items, site, layout, layout, torch.device("cpu"))
        pairs = plan.layout_q.n * plan.layout_k.n if plan.mask is None else plan.mask.bound.pairs()
        return pairs / layout.n**2


DENSE = Arm(label="dense", family="dense")
LINEAR = Arm(label="linear (elu + 1)", family="linear", system=Linear())


def disc(radius: float, *, pool: int | None = None, trained: int | None = None) -> Arm:
    """A disc, with pooled keys, with the proportional scale for a model trained on `trained` keys."""
    scaled = {} if trained is None else {"proportional": True, "trained_tokens": trained}
    extra = f" + pooled {pool} x {pool}" if pool else ""
    return Arm(
        label=f"disc r={radius:g}{extra}" + (" proportional" if scaled else ""),
        family="disc with pooled keys" if pool else "disc",
        reach=radius,
        scaled=bool(scaled),
        system=Clear(radius=radius, pool=pool, **scaled),
    )


def windows(size: int) -> Arm:
    """Windows that do not overlap."""
    return Arm(label=f"windows {size} x {size}", family="windows", reach=size, system=InWindows(size=size))


def pooled_only(size: int) -> Arm:
    """Pooled keys alone."""
    return Arm(label=f"pooled {size} x {size} only", family="pooled only", reach=size, system=PooledOnly(size=size))


def proportional(trained: int) -> Arm:
    """Dense attention, rescaled."""
    return Arm(label="dense proportional", family="dense", scaled=True, system=Proportional(trained=trained))
