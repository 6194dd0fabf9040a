"""Trajectories that know no picture: what any generator has to beat.

centre walk   an Ornstein-Uhlenbeck walk an axis, R_(t+1) = mu + a (R_t - mu) + s n, begun where people begin; mu, a and
              s are those of people's trajectories, so that it stays about the middle as long, and moves as far, as they
uniform       every sample anywhere in the picture
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class CentreWalk:
    """mu, a and s of each axis, and where walks begin; all in [-1, 1]."""

    begin: Float[np.ndarray, " 2"]
    mean: Float[np.ndarray, " 2"]
    keep: Float[np.ndarray, " 2"]
    noise: Float[np.ndarray, " 2"]

    @classmethod
    def fitted(cls, paths: Float[Tensor, "n l 2"]) -> Self:
        """By least squares over all trajectories. Raises ValueError for those of fewer than two samples."""
        if paths.shape[1] < 2:
            raise ValueError(f"paths of {paths.shape[1]} samples have no step; give two or more")
        found = paths.double().numpy()
        mean = found.mean((0, 1))
        now, then = found[:, :-1] - mean, found[:, 1:] - mean
        keep = (now * then).sum((0, 1)) / (now**2).sum((0, 1))
        return cls(begin=found[:, 0].mean(0), mean=mean, keep=keep, noise=(then - keep * now).std((0, 1)))

    def sample(self, count: int, length: int, rng: np.random.Generator) -> Float[np.ndarray, "k l 2"]:
        """`count` walks, kept inside the picture."""
        found = np.empty((count, length, 2))
        found[:, 0] = self.begin
        for step in range(1, length):
            away = found[:, step - 1] - self.mean
            found[:, step] = self.mean + self.keep * away + self.noise * rng.normal(size=(count, 2))
        return found.clip(-1, 1)


def uniform(count: int, length: int, rng: np.random.Generator) -> Float[np.ndarray, "k l 2"]:
    """Anywhere, at any time."""
    return rng.uniform(-1, 1, (count, length, 2))
