"""Trajectories to train on, each with its picture's features: a source for `train.denoising`.

Features are worked out once, since the encoder is frozen.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.checks import check_word
from saccade.core.scanpath import Points, check_points
from saccade.data.gaze import GazeSet
from saccade.metrics.trajectories import resampled
from saccade.papers.diffeye.config import Sees
from saccade.papers.diffeye.coordinates import TOLERANCE, to_unit
from saccade.papers.diffeye.encoders import Encoder

Fitting = Literal["resample", "cut"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GazeSource:
    """Trajectories in [-1, 1], and the features of the picture each is over.

    of       which row of `image` each trajectory is over
    image    features (m k c), one for each picture
    """

    paths: Float[Tensor, "n l 2"]
    of: Int[Tensor, " n"]
    image: Float[Tensor, "m k c"]
    channels: int = 2
    classes: int = 0
    names: tuple[str, ...] = ()

    @classmethod
    def of_gaze(
        cls,
        gaze: GazeSet,
        encoder: Encoder,
        length: int,
        *,
        sees: Sees = "patches",
        shortest: int = 2,
        fitting: Fitting = "resample",
        tolerance: float = TOLERANCE,
    ) -> Self:
        """All trajectories of a set with `shortest` samples or more.

        length    samples of each, by resampling, or cut to the first so many (`shortest` is then no less)
        Raises ValueError for points that are not finite or outside the picture by more than the tolerance, and where
        no trajectory is long enough.
        """
        check_word(("resample", "cut"), fitting=fitting)
        least = max(shortest, length) if fitting == "cut" else shortest
        found = [(row, _fitted(path, gaze, length, fitting, tolerance)) for row, path in _long(gaze, least)]
        if not found:
            raise ValueError(f"no trajectory of {len(gaze)} pictures has {least} samples; lower shortest, or resample")
        of, paths = zip(*found, strict=True)
        image = encoded(gaze, encoder, sees)
        return cls(paths=torch.from_numpy(np.stack(paths)).float(), of=torch.tensor(of), image=image, names=gaze.names)

    @property
    def side(self) -> int:
        """Samples of a trajectory."""
        return self.paths.shape[1]

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, rng: np.random.Generator, n: int) -> tuple[Tensor, dict[str, Tensor]]:
        """`n` trajectories drawn with replacement, and their condition."""
        return self._rows(torch.from_numpy(rng.integers(len(self), size=n)))

    def held_out(self, n: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The first `n`; a held-out set is a source of its own."""
        return self._rows(torch.arange(min(n, len(self))))

    def null(self, condition: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, nothing shown."""
        return null(condition)

    def _rows(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.paths[rows], shown(self.image[self.of[rows]])


def shown(image: Float[Tensor, "b k c"]) -> dict[str, Tensor]:
    """The condition of pictures that are seen."""
    return {"image": image, "shown": torch.ones(len(image), dtype=torch.bool, device=image.device)}


def null(condition: dict[str, Tensor]) -> dict[str, Tensor]:
    """The condition of the same pictures unseen."""
    return condition | {"shown": torch.zeros_like(condition["shown"])}


@torch.no_grad()
def encoded(gaze: GazeSet, encoder: Encoder, sees: Sees = "patches", batch: int = 16) -> Float[Tensor, "m k c"]:
    """Features of all pictures of a set: tokens, or for `sees="global"` the summary as a single one."""
    found = [encoder(part) for part in _pictures(gaze, batch)]
    parts: Iterable[Any] = (each.tokens if sees == "patches" else each.summary[:, None] for each in found)
    return torch.cat(list(parts))


def _pictures(gaze: GazeSet, batch: int) -> Iterator[Float[Tensor, "b 3 h w"]]:
    for start in range(0, len(gaze), batch):
        arrays = np.concatenate([gaze.picture(name) for name in gaze.names[start : start + batch]])
        yield torch.from_numpy(arrays).permute(0, 3, 1, 2).float()


def _long(gaze: GazeSet, least: int) -> Iterator[tuple[int, Points]]:
    for row, name in enumerate(gaze.names):
        yield from ((row, check_points(path, name)) for path in gaze.trajectories[name] if len(path) >= least)


def _fitted(path: Points, gaze: GazeSet, length: int, fitting: Fitting, tolerance: float) -> np.ndarray:
    unit = to_unit(path, gaze.size, tolerance)
    return resampled(unit, length) if fitting == "resample" else unit[:length]
