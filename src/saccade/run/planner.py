"""Systems asked between steps; each answer is prepared once, for every site and step that gets the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from saccade.core.clock import Clock
from saccade.core.errors import ConflictError
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism, PlanItem, System, WeakBranch
from saccade.core.site import Site, Where
from saccade.core.stack import Plan, make_plan

Items = Mapping[str, tuple[PlanItem, ...]]
Systems = Mapping[str, System]
T = TypeVar("T")
LATELY = 16  # forwards


@dataclass(eq=False)
class Planner:
    """Plans by answer: equal answers over equal tokens share masks, biases and, per site, the very plan object."""

    systems: Systems
    where: Where
    shared: dict[Any, Plan] = field(default_factory=dict)
    plans: dict[Any, Plan] = field(default_factory=dict)
    values: dict[Any, Any] = field(default_factory=dict)
    used: dict[Any, int] = field(default_factory=dict)  # preparation -> the last forward that wanted it
    forwards: int = 0

    def begin_forward(self) -> None:
        """Let go of preparations no forward wanted lately, so that answers new at every step do not pile up."""
        self.forwards += 1
        for key in [key for key, last in self.used.items() if self.forwards - last > LATELY]:
            del self.used[key], self.shared[key]
            self.plans = {own: plan for own, plan in self.plans.items() if own[0] != key}

    def same(self, value: T) -> T:
        """The first value equal to this one: compilers compare layouts and rows by identity."""
        return self.values.setdefault(value, value)

    def items(self, site: Site, clock: Clock) -> Items:
        """What each system wants here and now; systems that want nothing are left out."""
        if not (self.where.covers(site) and self.where.active(clock)):
            return {}
        asked = {name: tuple(system.plan(site, clock)) for name, system in self.systems.items()}
        return {name: items for name, items in asked.items() if items}

    def weak_weight(self, clock: Clock) -> tuple[str, float]:
        """(system, weight) of the weak rows that are wanted now; ("", 0.0) where none are.

        Raises ConflictError where two systems want some.
        """
        if not self.where.active(clock):
            return "", 0.0
        asked = {name: s.weak_weight(clock) for name, s in self.systems.items() if isinstance(s, WeakBranch)}
        asked = {name: weight for name, weight in asked.items() if weight}
        if len(asked) > 1:
            first, second, *_ = asked
            raise ConflictError(f"'{first}' and '{second}' both want weak rows in step {clock.step}; drop one of them")
        return next(iter(asked.items()), ("", 0.0))

    def plan(
        self,
        site: Site,
        items: Items,
        layout_q: Layout,
        layout_k: Layout,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        batch: int = 1,
        fold: int = 1,
    ) -> Plan | None:
        """The prepared plan, None where it comes to nothing (all masks open, no mechanism).

        dtype  of the host's operands; biases are kept in float32 at least
        fold   attention rows of each of the `batch` rows
        """
        if not items:
            return None
        fine = torch.promote_types(dtype, torch.float32)
        folded = (batch, fold) if fold > 1 else None
        key = (key_of(items), layout_q, layout_k, str(device), site.heads, fine, folded)
        if key not in self.shared:
            rows = torch.arange(batch).repeat_interleave(fold) if folded else None
            self.shared[key] = make_plan(items, site, layout_q, layout_k, device, fine, rows)
        self.used[key] = self.forwards
        own = (key, site.name)
        if own not in self.plans:
            self.plans[own] = replace(self.shared[key], site=site)
        return None if idle(self.plans[own]) else self.plans[own]

    def clear(self) -> None:
        """Forget all preparations."""
        self.shared.clear()
        self.plans.clear()
        self.values.clear()
        self.used.clear()


def idle(plan: Plan) -> bool:
    """Whether running the plan would be plain dense attention."""
    return (
        plan.mask is None and plan.bias is None and plan.kernel is None and not mechanisms(plan) and not plan.adapters
    )


def mechanisms(plan: Plan) -> tuple[Mechanism, ...]:
    """Every mechanism of a plan, once."""
    acts = (*plan.operands, *plan.keys, *plan.pairs, *plan.attention, *plan.output, *plan.observe)
    return tuple({id(m): m for _, m in acts}.values())


def needs(plan: Plan) -> frozenset[str]:
    """What the mechanisms of a plan ask of their site."""
    return frozenset(need for m in mechanisms(plan) for need in m.needs)


def named(systems: tuple[System, ...]) -> Systems:
    """Systems by name; a repeated name is numbered, so that each keeps its own state."""
    found: dict[str, System] = {}
    for system in systems:
        same = sum(name.split("#")[0] == system.name for name in found)
        found[f"{system.name}#{same + 1}" if same else system.name] = system
    return found


def key_of(items: Items) -> Any:
    """The key of equal answers: the items themselves, by identity where they cannot be hashed."""
    answer = tuple(items.items())
    try:
        hash(answer)
    except TypeError:  # an item that cannot be hashed is known by identity
        return tuple((name, tuple(id(i) for i in chosen)) for name, chosen in items.items())
    return answer
