"""How good generated pictures are, offline: on the features of a classifier trained on the same data.

A Frechet distance on such features is no FID and compares with none; it ranks generators of one data set, judged by
one classifier on as many pictures. Another draw of real pictures, scored the same way, shows what a perfect one gets.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from saccade.metrics.frechet import Features, Spread, frechet, kernel_distance
from saccade.metrics.intervals import Interval, share
from saccade.metrics.manifold import manifold

Pictures = Float[Tensor, "_ c h w"]
BATCH = 256
SUBSET = 1000
CELLS = 4


class Classifies(Protocol):
    """A classifier whose last layer, `head`, reads its `features`."""

    training: bool

    def features(self, x: Pictures, /) -> Features:
        """What a picture is like."""
        ...

    @property
    def head(self) -> torch.nn.Module:
        """Features to logits."""
        ...


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Of `n` generated pictures.

    frechet, kernel   distances to the real pictures on the classifier's features, with their spread
    layout            Frechet distance of 4 x 4 averages of the pixels: places and backgrounds that no label depends on
    precision         share like real ones, and density; recall: share of the real ones they are like, and coverage
    accuracy          share that the classifier takes for what was wanted; real_accuracy: of the real ones, its limit
    """

    n: int
    frechet: Spread
    kernel: Spread
    layout: Spread
    precision: float
    recall: float
    density: float
    coverage: float
    accuracy: Interval
    real_accuracy: Interval


def quality(
    classifier: Classifies,
    real: Pictures,
    labels: Int64[Tensor, " n"],
    fake: Float[Tensor, "m c h w"],
    wanted: Int64[Tensor, " m"],
    *,
    k: int = 3,
    resamples: int = 20,
    seed: int = 0,
) -> Quality:
    """Judge `fake`, drawn for the labels `wanted`, against held-out `real` pictures.

    `k`: neighbours that a ball reaches. `resamples`: behind the spread of the Frechet distance.
    Raises ValueError where pictures and labels differ in number, or the classifier is in training mode.
    """
    if classifier.training:
        raise ValueError("classifier is in training mode, where a picture's features depend on its batch; call eval()")
    for name, pictures, given in (("real", real, labels), ("fake", fake, wanted)):
        if len(pictures) != len(given):
            raise ValueError(f"{name} has {len(pictures)} pictures and {len(given)} labels; give one label each")
    (x, real_right), (y, right) = (_judged(classifier, *pair) for pair in ((real, labels), (fake, wanted)))
    found = manifold(x, y, k=k)
    return Quality(
        n=len(fake),
        frechet=frechet(x, y, resamples=resamples, seed=seed),
        kernel=kernel_distance(x, y, size=min(SUBSET, len(x) // 2, len(y) // 2), seed=seed),
        layout=frechet(_layout(real), _layout(fake), resamples=resamples, seed=seed),
        precision=found.precision,
        recall=found.recall,
        density=found.density,
        coverage=found.coverage,
        accuracy=share(right),
        real_accuracy=share(real_right),
    )


def _layout(pictures: Pictures) -> Features:
    return F.adaptive_avg_pool2d(pictures, CELLS).flatten(1)


@torch.no_grad()
def _judged(classifier: Classifies, pictures: Pictures, wanted: Int64[Tensor, " n"]) -> tuple[Features, list[bool]]:
    """Features of all pictures, and which of them are taken for what was wanted."""
    features = torch.cat([classifier.features(part) for part in pictures.split(BATCH)]).float()
    return features, (classifier.head(features).argmax(1) == wanted).tolist()
