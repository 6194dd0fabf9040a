"""What a stack would do, before it runs: systems asked at every site and step."""

from collections.abc import Iterable

from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.site import Site
from saccade.run.planner import Items, Planner
from saccade.seam.guards import check_need
from saccade.seam.interceptor import SiteInterceptor

PROBES = 5  # steps looked at when a stack is attached


def clocks(num_steps: int) -> list[Clock]:
    """The clocks of an even schedule, noise falling from 1."""
    return [
        Clock(step=i, num_steps=num_steps, sigma=1 - i / num_steps, timestep=1000 * (1 - i / num_steps))
        for i in range(num_steps)
    ]


def probe(planner: Planner, interceptors: Iterable[SiteInterceptor]) -> None:
    """Ask every system at a few steps and check its needs at each site; what wants recorded state is checked later."""
    for interceptor in interceptors:
        for clock in clocks(PROBES):
            try:
                items = planner.items(interceptor.site, clock)
            except StateError:
                continue
            for need in _needs(items):
                if need.startswith("host."):
                    check_need(interceptor, need, None)


def explain(planner: Planner, sites: Iterable[Site], num_steps: int) -> str:
    """One line per run of steps and sites that share a plan; errors a plan would raise later are raised now."""
    lines: dict[str, list[str]] = {}
    for site in sites:
        steps = [planner.items(site, clock) for clock in clocks(num_steps)]
        _check_memory(site, steps)
        phases = _phases([_describe(items) for items in steps])
        lines.setdefault("\n".join(phases), []).append(site.name)
    return "\n".join(f"{_span(names)}\n{phases}" for phases, names in lines.items())


def _check_memory(site: Site, steps: list[Items]) -> None:
    """StateError where a step reads what no step before it puts."""
    put: set[tuple[str, str]] = set()
    for step, items in enumerate(steps):
        acts = [(name, item) for name, chosen in items.items() for item in chosen if isinstance(item, Mechanism)]
        for name, mechanism in acts:
            if missing := sorted(key for key in mechanism.gets if (name, key) not in put):
                raise StateError(
                    f"'{name}' reads '{missing[0]}' in step {step} of {len(steps)} at '{site.name}' and no step before "
                    "puts it; let `where` and `during` cover the step that does"
                )
        put |= {(name, key) for name, mechanism in acts for key in mechanism.puts}


def _phases(steps: list[str]) -> list[str]:
    starts = [i for i in range(len(steps)) if i == 0 or steps[i] != steps[i - 1]]
    ends = [*starts[1:], len(steps)]
    return [f"  steps {a}-{b - 1}: {steps[a]}" for a, b in zip(starts, ends, strict=True)]


def _describe(items: Items) -> str:
    return " | ".join(f"{name}: {', '.join(map(_item, chosen))}" for name, chosen in items.items()) or "dense"


def _item(item: PlanItem) -> str:
    text = repr(item)
    return text if len(text) <= 120 and "tensor(" not in text else type(item).__name__


def _span(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)} sites)"


def _needs(items: Items) -> set[str]:
    return {need for chosen in items.values() for item in chosen if isinstance(item, Mechanism) for need in item.needs}
