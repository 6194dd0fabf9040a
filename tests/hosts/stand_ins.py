"""Small systems that make one thing visible each; real ones live in saccade.systems."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Device, Mask, Rule, among
from saccade.core.mechanism import KernelChoice, Mechanism, PlanItem
from saccade.core.partial import Parts
from saccade.core.places import Disc
from saccade.core.site import Site
from saccade.core.state import Memory

WINDOW = among("image", "image", Disc(radius=1.5))
OPEN = among("image", "image", Disc(radius=1e6))


@dataclass(frozen=True)
class Near(Mask):
    """Tokens see those fewer than `width` places away in the sequence; the last query stands at the last key."""

    width: int

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        ahead = layout_k.n - layout_q.n
        return (
            lambda b, h, q, k: torch.ones_like(q + k, dtype=torch.bool),
            lambda b, h, q, k: (q + ahead - k).abs() < self.width,
        )


@dataclass(frozen=True)
class EvenKeys(Mask):
    """Every other key is seen, from the first on: a mask that bites where there is no grid."""

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return (
            lambda b, h, q, k: torch.ones_like(q + k, dtype=torch.bool),
            lambda b, h, q, k: (q >= 0) & (k % 2 == 0),
        )


@dataclass(frozen=True)
class Same:
    """Runs every site through saccade without changing its formulation."""

    name: str = "same"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (KernelChoice("sdpa"),)


@dataclass(frozen=True)
class Nothing:
    """Wants nothing anywhere."""

    name: str = "nothing"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return ()


@dataclass(frozen=True)
class Masked:
    """One fixed mask at all sites."""

    mask: Mask = WINDOW
    name: str = "masked"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.mask,)


@dataclass(frozen=True)
class Steps:
    """A mask in the first half of the steps, nothing afterwards; `seen` collects the clocks it was asked for."""

    seen: list[Clock]
    name: str = "steps"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        self.seen.append(clock)
        return (WINDOW,) if clock.progress < 0.5 else ()


@dataclass(frozen=True, eq=False)
class Look(Mechanism):
    """Calls `look(call)` and changes nothing."""

    look: Callable[[AttentionCall], None]
    needs: frozenset[str] = frozenset()  # type: ignore[misc]

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        self.look(call)


@dataclass(frozen=True)
class Looking:
    """One mechanism at all sites."""

    mechanism: Mechanism
    name: str = "looking"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.mechanism,)


def looking(look: Callable[[AttentionCall], None], *needs: str) -> Looking:
    """A system that calls `look` at every site."""
    return Looking(Look(look, frozenset(needs)))


@dataclass(frozen=True)
class Scaled(Mechanism):
    """Attention temperature: scale times `factor`."""

    factor: float = 2.0

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        return call.replace(scale=call.scale * self.factor)


@dataclass(frozen=True)
class Kept(Mechanism):
    """Puts the mean of v at each step and adds what the step before put."""

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        mean = call.v.mean(dim=2, keepdim=True)
        mem.put("mean", mean)
        return call.replace(v=call.v + mem.get("mean", shape=tuple(mean.shape))) if mem.has("mean") else call


def fails(call: AttentionCall) -> None:
    """An error from inside a call."""
    raise ZeroDivisionError("inside a call")


def rows_differ(a: torch.Tensor, b: torch.Tensor) -> list[bool]:
    """Which batch rows differ."""
    return [(x - y).abs().max().item() > 1e-6 for x, y in zip(a, b, strict=True)]
