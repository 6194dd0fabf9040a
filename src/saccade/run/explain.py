"""What a stack would do, before it runs: systems asked at every site and step."""

from collections.abc import Iterable
from itertools import groupby

from saccade.core.errors import StateError
from saccade.core.mechanism import Mechanism
from saccade.core.projections import Adapter
from saccade.core.site import Site
from saccade.run.planner import Items, Planner
from saccade.run.site_plan import SitePlan, clocks, site_plans
from saccade.seam.guards import check_need
from saccade.seam.interceptor import SiteInterceptor
from saccade.seam.projection_hooks import check_adapter

PROBES = 5  # steps looked at when a stack is attached


def probe(planner: Planner, interceptors: Iterable[SiteInterceptor]) -> None:
    """Ask every system at a few steps and check its needs at each site; what wants recorded state is checked later.

    Raises what the checks raise.
    """
    for interceptor in interceptors:
        for clock in clocks(PROBES):
            try:
                items = planner.items(interceptor.site, clock)
            except StateError:
                continue
            for adapter in (item for chosen in items.values() for item in chosen if isinstance(item, Adapter)):
                check_adapter(interceptor, adapter)
            for need in _needs(items):
                if need.startswith("host."):
                    check_need(interceptor, need, None)


def explain(planner: Planner, sites: Iterable[Site], num_steps: int) -> str:
    """One line per run of steps and sites that share a plan.

    Raises what a plan would raise later, StateError where a step reads what no step before it puts, ValueError for less
    than one step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps} must be at least 1")
    lines: dict[str, list[str]] = {}
    for site in sites:
        found = list(site_plans(planner, site, num_steps))
        _check_memory(site, found, num_steps)
        lines.setdefault(_phases([plan for plan, _ in found]), []).append(site.name)
    return "\n".join(f"{_span(names)}\n{phases}" for phases, names in lines.items())


def _check_memory(site: Site, found: list[tuple[SitePlan, Items]], num_steps: int) -> None:
    put: set[tuple[str, str]] = set()
    for plan, items in found:
        acts = [(name, item) for name, chosen in items.items() for item in chosen if isinstance(item, Mechanism)]
        for name, mechanism in acts:
            if missing := sorted(key for key in mechanism.gets if (name, key) not in put):
                raise StateError(
                    f"'{name}' reads '{missing[0]}' in step {plan.first} of {num_steps} at '{site.name}' and no step "
                    "before puts it; let `where` and `during` cover the step that does"
                )
        put |= {(name, key) for name, mechanism in acts for key in mechanism.puts}


def _phases(plans: list[SitePlan]) -> str:
    """A line for each run of steps that reads alike."""
    alike = [list(group) for _, group in groupby(plans, key=lambda plan: plan.does)]
    return "\n".join(f"  steps {g[0].first}-{g[-1].last}: {' | '.join(g[0].does) or 'dense'}" for g in alike)


def _span(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)} sites)"


def _needs(items: Items) -> set[str]:
    return {need for chosen in items.values() for item in chosen if isinstance(item, Mechanism) for need in item.needs}
