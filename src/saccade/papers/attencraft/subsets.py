"""Which concepts the prompt of a step names: each alone or all together, as often or the slower ones more often."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from saccade.core.checks import check_word

Scheme = Literal["uniform", "reweighted", "full"]


@dataclass(frozen=True, kw_only=True)
class SubsetSampler:
    """Subsets of `subjects` concepts.

    scheme  "uniform": each alone and all together are equally likely; "reweighted": a concept alone the likelier the
            less attention it gets within its own mask; "full": all together, always
    every   so many steps, step 0 included, all together in their own order
    At other steps all together come in random order.
    Raises ValueError for options out of range.
    """

    subjects: int
    scheme: Scheme = "uniform"
    every: int = 20

    def __post_init__(self) -> None:
        check_word(get_args(Scheme), scheme=self.scheme)
        for name in ("subjects", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def probabilities(self, scores: Sequence[float] = ()) -> tuple[float, ...]:
        """Of each concept alone, then of all together; `scores`: the attention of each within its own mask.

        Raises ValueError for scores that are not as many, or not positive.
        """
        n = self.subjects
        if self.scheme == "full" or n == 1:
            return (*(0.0,) * n, 1.0)
        if self.scheme == "uniform" or not scores:
            return (1 / (n + 1),) * (n + 1)
        if len(scores) != n or min(scores) <= 0:
            raise ValueError(f"scores={tuple(scores)} must be {n} numbers above 0, one for each concept")
        slow = np.array([min(scores) / score for score in scores])
        return (*(slow / slow.sum() * n / (n + 1)).tolist(), 1 / (n + 1))

    def draw(self, rng: np.random.Generator, step: int, scores: Sequence[float] = ()) -> tuple[int, ...]:
        """The concepts of a step in the order of its prompt.

        Raises ValueError as `probabilities` does.
        """
        chances = np.cumsum(self.probabilities(scores))
        chosen = int(np.searchsorted(chances[:-1], rng.random(), side="right"))
        order = tuple(int(i) for i in rng.permutation(self.subjects))
        if step % self.every == 0:
            return tuple(range(self.subjects))
        return (chosen,) if chosen < self.subjects else order
