"""The two ways to spend more on a question: more trials of full length, or longer ones; as tables for a frontier.

Traces are drawn beforehand: `lengths` (questions, trials) in tokens, and whether each is right. A setting's cost is the
mean over a question's traces.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from saccade.papers.kinetics.cost import B200, Budget, Use, cost_of
from saccade.papers.kinetics.coverage import pass_at
from saccade.papers.kinetics.frontier import Table
from saccade.papers.kinetics.shapes import Shape

Lengths = Int[np.ndarray, "q n"]
SPLIT = 16384  # of a budget B: blocks of SPLIT / B keys, B^2 / SPLIT of them


def block_budget(keys: int) -> Budget:
    """A budget in blocks as published: (128, 1), (64, 4), (32, 16), (16, 64), (8, 256) for 128 to 2,048 keys.

    Raises ValueError for keys whose blocks do not come out whole.
    """
    if keys < 1 or SPLIT % keys or keys * keys % SPLIT:
        raise ValueError(f"keys={keys} must divide {SPLIT}, its square be a multiple of it: 128, 256, 512, 1024, 2048")
    return Budget(top=keys, block=SPLIT // keys)


def best_of(
    shape: Shape,
    lengths: Lengths,
    right: Bool[np.ndarray, "q n"],
    *,
    prompt: int,
    trials: Sequence[int] = (1, 2, 4, 8, 16, 32),
    budget: Budget | None = None,
    intensity: float = B200,
) -> tuple[Table, Table]:
    """Costs and coverages (settings, questions) of so many trials of full length.

    Raises ValueError for more trials than there are traces.
    """
    costs = [_costs(shape, lengths, prompt, k, budget, intensity) for k in trials]
    covered = [[pass_at(k, trials=len(row), correct=int(row.sum())) for row in right] for k in trials]
    return np.array(costs), np.array(covered)


def cut_short(
    shape: Shape,
    lengths: Lengths,
    right: Bool[np.ndarray, "t q n"],
    *,
    prompt: int,
    at: Sequence[int] = tuple(range(2048, 32769, 2048)),
    budget: Budget | None = None,
    intensity: float = B200,
) -> tuple[Table, Table]:
    """Costs and coverages of one trial cut at so many tokens; `right`: of each trace as graded there, for every cut.

    Raises ValueError where the grades are not of as many cuts.
    """
    if len(right) != len(at):
        raise ValueError(f"right holds grades of {len(right)} cuts, at={tuple(at)} has {len(at)}")
    costs = [_costs(shape, np.minimum(lengths, tokens), prompt, 1, budget, intensity) for tokens in at]
    return np.array(costs), right.mean(2)


def _costs(
    shape: Shape, lengths: Lengths, prompt: int, trials: int, budget: Budget | None, intensity: float
) -> list[float]:
    """Of each question, a mean over its traces."""
    uses = ([Use(prompt=prompt, generated=int(n), trials=trials) for n in row] for row in lengths)
    return [float(np.mean([cost_of(shape, use, budget).equivalent(intensity) for use in row])) for row in uses]
