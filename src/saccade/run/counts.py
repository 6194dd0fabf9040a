"""Counts of a run, kept from plans between forwards; reading them costs the forward nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saccade.core.stack import Plan
from saccade.core.state import Memory
from saccade.ops import Choice
from saccade.run.attached_model import AttachedModel
from saccade.run.planner import mechanisms
from saccade.run.report import Report, SiteReport
from saccade.seam.interceptor import SiteInterceptor


@dataclass(eq=False)
class RunCounts:
    """Forwards seen, and per site how often a plan ran and how dense it was."""

    forwards: int = 0
    steps: int = 0
    systems: dict[str, dict[str, None]] = field(default_factory=dict)  # names by site, in order of appearance
    passed: dict[str, int] = field(default_factory=dict)  # forwards of a site's model
    calls: dict[str, int] = field(default_factory=dict)
    dense: dict[str, Any] = field(default_factory=dict)  # sum of densities over these forwards, perhaps on a device
    unknown: set[str] = field(default_factory=set)  # sites where a selector decides inside the call and does not say
    kernels: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)  # site -> kernel -> who refused

    def count(self, interceptor: SiteInterceptor, choice: Choice | None = None) -> None:
        """One forward is about to pass this interceptor, by this kernel."""
        name, plan = interceptor.site.name, interceptor.plan
        self.passed[name] = self.passed.get(name, 0) + 1
        share = 1.0 if plan is None else computed(plan, interceptor.memories)
        if share is None:
            self.unknown.add(name)
        else:
            self.dense[name] = self.dense.get(name, 0.0) + share
        if plan is None:
            return
        self.calls[name] = self.calls.get(name, 0) + 1
        self.systems.setdefault(name, {}).update(dict.fromkeys(plan.systems))
        if choice is not None:
            self.kernels.setdefault(name, {}).setdefault(choice.kernel, choice.reasons)

    def report(self, models: list[AttachedModel]) -> Report:
        """All sites, in order, those left alone last."""
        interceptors = [self._site(interceptor) for m in models for interceptor in m.interceptors]
        alone = [SiteReport(name=n, kind="-", note=why) for m in models for n, why in m.alone.items()]
        host = " + ".join(dict.fromkeys(m.family.name for m in models))
        return Report(host=host, forwards=self.forwards, steps=self.steps, sites=(*interceptors, *alone))

    def _site(self, interceptor: SiteInterceptor) -> SiteReport:
        name = interceptor.site.name
        return SiteReport(
            name=name,
            kind=interceptor.site.kind,
            calls=self.calls.get(name, 0),
            systems=tuple(self.systems.get(name, ())),
            kernel=" + ".join(self.kernels.get(name, {"host": {}})),
            refused={k: why for reasons in self.kernels.get(name, {}).values() for k, why in reasons.items()},
            forwards=(passed := self.passed.get(name, 0 if self.passed else self.forwards)),
            density=None if name in self.unknown else float(self.dense[name]) / passed if name in self.dense else 1.0,
            seconds=interceptor.seconds,
        )


def computed(plan: Plan, memories: Mapping[str, Memory]) -> Any:
    """Share of pairs a call will compute, a number or a 0-d tensor; None where a chosen mask meets another."""
    acts = {id(mechanism): (name, mechanism) for name, mechanism in (*plan.pairs, *plan.attention)}
    chosen = [mechanism.density(memories[name]) for name, mechanism in acts.values()]
    sparse = [share for share in chosen if not isinstance(share, float) or share < 1]
    if not sparse:
        return density(plan)
    return sparse[0] if plan.mask is None and len(sparse) == 1 else None


def density(plan: Plan) -> float:
    """Share of pairs its fixed mask leaves, and that its mechanisms compute beside them."""
    own = 1.0 if plan.mask is None else plan.mask.bound.density()
    return own + sum(mechanism.more_pairs for mechanism in mechanisms(plan))
