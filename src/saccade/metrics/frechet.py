"""Distances between two sets of features: Frechet's of fitted Gaussians, and the kernel distance.

On Inception's features they are called FID and KID; on any others they are not, and their values do not compare.

Sources: Heusel et al., "GANs trained by a two time-scale update rule" (2017); Binkowski et al., "Demystifying MMD GANs"
(2018), the polynomial kernel and the unbiased estimate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Features = Float[Tensor, "n f"]
Others = Float[Tensor, "m f"]
DEGREE = 3


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A score, and the standard deviation of it over resamplings."""

    value: float
    spread: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.spread:.2g}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Mean of `n` feature vectors, and the sum of the outer products of what deviates from it."""

    n: int
    mean: Float64[Tensor, " f"]
    scatter: Float64[Tensor, "f f"]

    @staticmethod
    def of(features: Features) -> "Moments":
        """Those of one chunk; it holds one vector at least.

        Raises ValueError for no vector.
        """
        if not len(features):
            raise ValueError(f"features {tuple(features.shape)} hold no vector; give at least one")
        x = features.double()
        mean = x.mean(0)
        return Moments(n=len(x), mean=mean, scatter=(x - mean).T @ (x - mean))

    @staticmethod
    def over(chunks: Iterable[Float[Tensor, "_ f"]]) -> "Moments":
        """Those of many chunks, equal to those of all at once."""
        return reduce(Moments.joined, map(Moments.of, chunks))

    def joined(self, other: "Moments") -> "Moments":
        """Those of both sets together."""
        n, gap = self.n + other.n, other.mean - self.mean
        between = torch.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n=n, mean=self.mean + gap * (other.n / n), scatter=self.scatter + other.scatter + between)

    @property
    def cov(self) -> Float64[Tensor, "f f"]:
        """The unbiased covariance; takes two vectors.

        Raises ValueError for a single vector.
        """
        if self.n < 2:
            raise ValueError(f"n={self.n} vector has no covariance; give at least two")
        return self.scatter / (self.n - 1)

    def frechet(self, other: "Moments") -> float:
        """Frechet distance of the two fitted Gaussians."""
        return frechet_distance(self.mean, self.cov, other.mean, other.cov)


def frechet_distance(
    mean: Float[Tensor, " f"],
    cov: Float[Tensor, "f f"],
    other_mean: Float[Tensor, " f"],
    other_cov: Float[Tensor, "f f"],
) -> float:
    """|a - b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), in float64.

    The symmetric product has the eigenvalues of A B; roundings below zero count as zero.
    """
    a, b = cov.double(), other_cov.double()
    root = _root(a)
    shared = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    gap = (mean.double() - other_mean.double()).square().sum()
    return max(0.0, float(gap + a.trace() + b.trace() - 2 * shared))


def frechet(real: Features, fake: Others, *, resamples: int = 20, seed: int = 0) -> Spread:
    """Frechet distance of two sets of features, and how it varies when both are drawn again with replacement.

    The value grows as the sets shrink, by about their number of features over their size: compare equal sizes only.
    """
    check_features(real, fake)
    noise = torch.Generator().manual_seed(seed)
    drawn = [Moments.of(_again(real, noise)).frechet(Moments.of(_again(fake, noise))) for _ in range(resamples)]
    spread = float(torch.tensor(drawn, dtype=torch.float64).std()) if resamples > 1 else 0.0
    return Spread(value=Moments.of(real).frechet(Moments.of(fake)), spread=spread)


def kernel_distance(real: Features, fake: Others, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> Spread:
    """Unbiased squared maximum mean discrepancy of the kernel (x.y / f + 1)^3: its mean over random subsets.

    Below zero by chance where the sets agree. `size`: vectors of each set in a subset, drawn without replacement.
    Raises ValueError for a size below 2 or above the smaller set's.
    """
    check_features(real, fake)
    if not 2 <= size <= min(len(real), len(fake)):
        raise ValueError(f"size={size} must be 2 to {min(len(real), len(fake))}, the size of the smaller set")
    noise = torch.Generator().manual_seed(seed)
    found = [discrepancy(_some(real, size, noise), _some(fake, size, noise)) for _ in range(subsets)]
    values = torch.tensor(found, dtype=torch.float64)
    return Spread(value=float(values.mean()), spread=float(values.std(correction=0)))


def discrepancy(real: Features, fake: Others) -> float:
    """Unbiased squared maximum mean discrepancy of two sets, each of two vectors at least."""
    x, y = real.double(), fake.double()
    within = [(_kernel(z, z).sum() - _kernel_diagonal(z).sum()) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return float(within[0] + within[1] - 2 * _kernel(x, y).mean())


def check_features(real: Features, fake: Others) -> None:
    """Raise ValueError unless both sets hold two finite vectors of one length at least."""
    for name, x in (("real", real), ("fake", fake)):
        if len(x) < 2:
            raise ValueError(f"{name} holds {len(x)} feature vectors; give at least two")
        if not x.isfinite().all():
            raise ValueError(f"{name} holds features that are not finite; look for them in its pictures")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"real has {real.shape[1]} features and fake {fake.shape[1]}; both need the same extractor")


def _root(cov: Float64[Tensor, "f f"]) -> Float64[Tensor, "f f"]:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _kernel(x: Float64[Tensor, "n f"], y: Float64[Tensor, "m f"]) -> Float64[Tensor, "n m"]:
    return (x @ y.T / x.shape[1] + 1) ** DEGREE


def _kernel_diagonal(x: Float64[Tensor, "n f"]) -> Float64[Tensor, " n"]:
    return (x.square().mean(1) + 1) ** DEGREE


def _again(x: Features, noise: torch.Generator) -> Features:
    return x[torch.randint(len(x), (len(x),), generator=noise)]


def _some(x: Features, size: int, noise: torch.Generator) -> Float[Tensor, "{size} f"]:
    return x[torch.randperm(len(x), generator=noise)[:size]]
