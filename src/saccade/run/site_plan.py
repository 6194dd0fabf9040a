"""What a stack does at one site over a run of steps: one description, for `run.explain` and for `saccade explain`."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site
from saccade.run.planner import Items, Planner, key_of

LONGEST = 120  # characters of an item's text


@dataclass(frozen=True, kw_only=True)
class SitePlan:
    """One site over steps `first` to `last`.

    does     a line for each system: its name and what it wants; none where attention stays dense
    tokens   the keys, where the layout is known
    density  share of pairs computed, None where it is decided inside the call
    reasons  why other kernels do not take the call
    """

    site: str
    kind: str
    first: int
    last: int
    does: tuple[str, ...] = ()
    tokens: str = ""
    density: float | None = 1.0
    kernel: str = "host"
    reasons: tuple[str, ...] = ()


def clocks(num_steps: int) -> list[Clock]:
    """The clocks of an even schedule, noise falling from 1."""
    return [
        Clock(step=i, num_steps=num_steps, sigma=1 - i / num_steps, given=1000 * (1 - i / num_steps))
        for i in range(num_steps)
    ]


def site_plans(planner: Planner, site: Site, num_steps: int) -> Iterator[tuple[SitePlan, Items]]:
    """Each run of steps over which all systems answer alike, and their answer."""
    answers = [planner.items(site, clock) for clock in clocks(num_steps)]
    starts = [i for i in range(num_steps) if i == 0 or key_of(answers[i]) != key_of(answers[i - 1])]
    for first, after in pairwise([*starts, num_steps]):
        items = answers[first]
        does = tuple(f"{name}: {', '.join(map(word, chosen))}" for name, chosen in items.items())
        yield SitePlan(site=site.name, kind=site.kind, first=first, last=after - 1, does=does), items


def word(item: PlanItem) -> str:
    """An item of a plan in a few words: its text, or its class where that is long."""
    text = repr(item)
    return text if len(text) <= LONGEST and "tensor(" not in text else type(item).__name__
