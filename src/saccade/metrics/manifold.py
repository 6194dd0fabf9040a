"""Are the generated pictures like real ones, and are all kinds of real ones generated? By balls around feature vectors.

A set's manifold is the union of balls around its vectors, each reaching its k-th nearest neighbour in the set.

precision  share of fake vectors inside the real manifold
recall     share of real vectors inside the fake manifold
density    mean number of real balls around a fake vector, over k; outliers among the real weigh less, may exceed 1
coverage   share of real balls that hold a fake vector

Sources: Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models" (2019), k = 3;
Naeem et al., "Reliable fidelity and diversity metrics for generative models" (2020).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.metrics.frechet import Features, Others, check_features

ROWS = 1024  # distances at a time: this many vectors to all others


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """All in [0, 1] but density, which is 0 or more."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: Features, fake: Others, *, k: int = 3, rows: int = ROWS) -> Manifold:
    """All four scores, of distances in float64. `rows`: of them in memory at once, which changes no score.

    Raises ValueError for a k out of range.
    """
    check_features(real, fake)
    real, fake = real.double(), fake.double()
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k={k} must be 1 to {min(len(real), len(fake)) - 1}; a vector is not its own neighbour")
    around_real, around_fake = (radii(x, k=k, rows=rows) for x in (real, fake))
    held, covered, recalled = torch.zeros(len(fake), device=fake.device), [], []
    for part, radius in zip(real.split(rows), around_real.split(rows), strict=True):
        apart = _apart(part, fake)
        inside = apart <= radius[:, None]
        held += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((apart <= around_fake).any(1))
    return Manifold(
        precision=float((held > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=float(held.double().mean() / k),
        coverage=float(torch.cat(covered).double().mean()),
    )


def radii(x: Features, *, k: int = 3, rows: int = ROWS) -> Float[Tensor, " n"]:
    """Distance of each vector to its k-th nearest neighbour."""
    x = x.double()
    return torch.cat([_apart(part, x).kthvalue(k + 1, dim=1).values for part in x.split(rows)])


def _apart(x: Features, y: Others) -> Float[Tensor, "n m"]:
    """Distances, the same in either order and zero between equal vectors, as no product of matrices has them."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
