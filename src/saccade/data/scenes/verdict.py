"""Does a picture keep what its caption promises?

Things read from the picture are matched to the things wanted so that as many promises as possible are kept; then each
kind of promise is scored by the share kept. What the caption does not mention is not scored: nan, and no part of `all`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isnan, nan

import numpy as np

from saccade.data.scenes.reading import Parsed, Picture, Seen, parse
from saccade.data.scenes.words import Prompt, Relation, Want, holds

CLEARLY = 0.1  # distance of two centres along an axis, from which a relation counts as shown
_WEIGHTS = {"colour": 4.0, "shape": 4.0, "place": 2.0, "size": 1.0}  # of a kept promise in the matching


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Shares in [0, 1] of the promises kept, by kind; nan where the caption promises nothing of that kind.

    A thing that is missing keeps none. `relation` counts only between things of the right colour and shape. `count`:
    exactly as many things as named; one too many or too few fails it. `all`: every promise kept, and the count.
    """

    colour: float
    shape: float
    size: float
    place: float
    background: float
    relation: float
    count: bool
    all: bool


def judge(image: Picture | Parsed, prompt: Prompt) -> Verdict:
    """Judge a picture (anything `parse` takes, or what it returned) by its caption."""
    seen = image if isinstance(image, Parsed) else parse(image)
    matched = match(seen.things, prompt.wants)
    kept = {name: _share([_keeps(thing, want, name) for thing, want in matched]) for name in _WEIGHTS}
    kept["background"] = _share([None if prompt.background is None else seen.background == prompt.background])
    kept["relation"] = _share([_shown(relation, matched) for relation in prompt.relations])
    count = len(seen.things) == len(prompt.wants)
    whole = count and all(share == 1 or isnan(share) for share in kept.values())
    return Verdict(**kept, count=count, all=whole)


def rates(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Mean of each field over the verdicts that score it; nan where none does."""
    columns = {f.name: np.array([float(getattr(verdict, f.name)) for verdict in verdicts]) for f in fields(Verdict)}
    return {name: float(np.nanmean(values)) if np.isfinite(values).any() else nan for name, values in columns.items()}


def match(things: tuple[Seen, ...], wants: tuple[Want, ...]) -> list[tuple[Seen | None, Want]]:
    """Each want with its thing, None where there are too few, by the assignment that keeps most."""
    from scipy.optimize import linear_sum_assignment

    scores = [[_score(thing, want) for thing in things] for want in wants]
    rows, columns = linear_sum_assignment(np.array(scores).reshape(len(wants), len(things)), maximize=True)
    found = {int(row): things[column] for row, column in zip(rows, columns, strict=True)}
    return [(found.get(i), want) for i, want in enumerate(wants)]


def _score(thing: Seen, want: Want) -> float:
    return sum(weight for name, weight in _WEIGHTS.items() if _keeps(thing, want, name))


def _keeps(thing: Seen | None, want: Want, name: str) -> bool | None:
    """Whether `thing` keeps what `want` says of `name`; None if it says nothing."""
    promised = getattr(want, name)
    return None if promised is None else thing is not None and getattr(thing, name) == promised


def _shown(relation: Relation, matched: list[tuple[Seen | None, Want]]) -> bool:
    i, name, j = relation
    (a, first), (b, second) = matched[i], matched[j]
    if a is None or b is None or not (_named(a, first) and _named(b, second)):
        return False
    return holds(name, (a.x, a.y), (b.x, b.y), CLEARLY)


def _named(thing: Seen, want: Want) -> bool:
    return thing.colour == want.colour and thing.shape == want.shape


def _share(kept: Sequence[bool | None]) -> float:
    said = [answer for answer in kept if answer is not None]
    return sum(said) / len(said) if said else nan
