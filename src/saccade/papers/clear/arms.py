"""What the experiment compares on a model: discs, and windows, pooled keys and linear attention beside them."""

from dataclasses import dataclass, replace

import torch

from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Mask, forbid
from saccade.core.mechanism import PlanItem, System
from saccade.core.places import Windows
from saccade.core.site import Site
from saccade.core.stack import make_plan
from saccade.papers.clear.linear_attention import LinearAttention
from saccade.papers.clear.log_scale import LogScale
from saccade.papers.clear.pooled_keys import PooledKeys
from saccade.papers.clear.system import Clear


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
class AttentionArm:
    """One way to attend; `family` groups arms in plots, `scaled` marks the proportional scale."""

    label: str
    family: str
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


DENSE = AttentionArm(label="dense", family="dense")
LINEAR = AttentionArm(label="linear (elu + 1)", family="linear", system=Linear())


def disc(radius: float, *, pool: int | None = None, trained: int | None = None) -> AttentionArm:
    """A disc, with pooled keys, with the proportional scale for a model trained on `trained` keys."""
    scaled = {} if trained is None else {"proportional": True, "trained_tokens": trained}
    extra = f" + pooled {pool} x {pool}" if pool else ""
    return AttentionArm(
        label=f"disc r={radius:g}{extra}" + (" proportional" if scaled else ""),
        family="disc with pooled keys" if pool else "disc",
        scaled=bool(scaled),
        system=Clear(radius=radius, pool=pool, **scaled),
    )


def adapted(radius: float, *, trained: int | None = None) -> AttentionArm:
    """A disc with the bundled adapter, which was distilled at one radius, whatever this one is."""
    plain = disc(radius, trained=trained)
    assert isinstance(plain.system, Clear)
    return replace(plain, label=plain.label + " distilled", system=replace(plain.system, distilled=ADAPTER))


def windows(size: int) -> AttentionArm:
    """Windows that do not overlap."""
    return AttentionArm(label=f"windows {size} x {size}", family="windows", system=InWindows(size=size))


def pooled_only(size: int) -> AttentionArm:
    """Pooled keys alone."""
    return AttentionArm(label=f"pooled {size} x {size} only", family="pooled only", system=PooledOnly(size=size))


def proportional(trained: int) -> AttentionArm:
    """Dense attention, rescaled."""
    system = Proportional(trained=trained)
    return AttentionArm(label="dense proportional", family="dense", scaled=True, system=system)


ADAPTER = "scenes-flux-clear-r8"
TEXT = 32  # tokens to which captions are padded
TRAINED = 64 + TEXT  # keys at the bundled model's first training size: 8 x 8 and the caption
COVERING = 22.0  # beyond the diagonal of 16 x 16

SMALL_LOSSES = (
    DENSE, *(disc(r) for r in (1, 2, 3, 4, 5, 6, 8, 12, COVERING)), disc(3, pool=4), disc(5, pool=4),
    windows(5), windows(8), pooled_only(4), pooled_only(2), LINEAR,
)  # fmt: skip
LARGE_LOSSES = (
    DENSE,
    proportional(TRAINED),
    *(arm for r in (3, 4, 6, 8, 12, 16) for arm in (disc(r), disc(r, trained=TRAINED))),
)
SMALL_SAMPLES = (DENSE, *(disc(r) for r in (2, 3, 4, 6, 8)), windows(5), pooled_only(4), LINEAR)
LARGE_SAMPLES = (DENSE, proportional(TRAINED), disc(4), disc(4, trained=TRAINED), disc(8), disc(8, trained=TRAINED))
LOSS_ARMS = (SMALL_LOSSES, LARGE_LOSSES)  # on the first and the second grid
SAMPLE_ARMS = (SMALL_SAMPLES, LARGE_SAMPLES)
