"""How somebody searches among objects: new ones, the same again, earlier ones again; and how far a model is from it.

A run is a stretch of fixations on one object.

search    runs of objects not seen before      refix     fixations that stay on the object
revisit   runs of objects seen before          each over the number of fixations; the three sum to 1
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from saccade.metrics.scanpaths.alignment import Symbols


class Behaviour(NamedTuple):
    """Of one trial, or means over trials."""

    correct: float
    length: float
    search: float
    refix: float
    revisit: float


def behaviour(objects: Symbols, target: int) -> Behaviour:
    """Of the objects fixated in turn; correct where the last is the target.

    Raises ValueError for an empty string.
    """
    if not len(objects):
        raise ValueError("objects is an empty string; leave out trials without a fixation")
    runs = [symbol for symbol, _ in groupby(int(symbol) for symbol in objects)]
    length, new = len(objects), len(set(runs))
    return Behaviour(
        correct=float(objects[-1] == target),
        length=float(length),
        search=new / length,
        refix=(length - len(runs)) / length,
        revisit=(len(runs) - new) / length,
    )


def mean_behaviour(trials: Sequence[Behaviour]) -> Behaviour:
    """The mean of each number.

    Raises ValueError without any trial.
    """
    if not trials:
        raise ValueError("trials is empty; give the behaviour of at least one")
    return Behaviour(*np.mean(trials, axis=0).tolist())


def behaviour_delta(model: Behaviour, human: Behaviour) -> float:
    """Mean over the five numbers of |model - human| / human: 0 where all agree, infinite where only a human's is 0."""
    found, wanted = np.array(model), np.array(human)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(found - wanted) / wanted
    return float(np.where(found == wanted, 0.0, relative).mean())
