"""Pictures and how people looked at them: fixations with durations, and whole paths of gaze or pointer.

Coordinates are (x, y) in pixels of the picture, x to the right and y downwards; durations are in milliseconds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from saccade.core.checks import check_word
from saccade.core.scanpath import Points, Scanpath

Picture = Float[np.ndarray, "1 h w 3"]
GazeSplit = Literal["train", "held-out"]
HELD_OUT = 7  # every seventh picture


@dataclass(frozen=True, kw_only=True, eq=False)
class GazeSet:
    """Pictures of one size, and for each its observers' scanpaths and trajectories, either of which may be ().

    size           (width, height) in pixels
    scanpaths      by picture's name, one for each observer
    trajectories   by picture's name, (t 2) each, of any lengths; samples in order, their times may be unknown
    picture        reads the picture of a name, in [0, 1]
    """

    names: tuple[str, ...]
    size: tuple[int, int]
    scanpaths: Mapping[str, tuple[Scanpath, ...]]
    trajectories: Mapping[str, tuple[Points, ...]]
    picture: Callable[[str], Picture] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def split(self, split: GazeSplit, every: int = HELD_OUT) -> "GazeSet":
        """The pictures held out, every `every`-th, or all others; nobody's path over a picture is in both.

        Raises ValueError for another split, and for a share that leaves one of both without a picture.
        """
        check_word(get_args(GazeSplit), split=split)
        if not 2 <= every <= len(self):
            raise ValueError(f"every={every} must be in 2 to {len(self)}, the pictures there are")
        return self.take(n for i, n in enumerate(self.names) if (i % every == every - 1) == (split == "held-out"))

    def take(self, names: Iterable[str]) -> "GazeSet":
        """The pictures of these names. Raises ValueError for a name that is not there."""
        chosen = tuple(names)
        if unknown := [name for name in chosen if name not in self.scanpaths]:
            raise ValueError(f"names hold '{unknown[0]}', which none of the {len(self)} pictures is called")
        return replace(
            self,
            names=chosen,
            scanpaths={name: self.scanpaths[name] for name in chosen},
            trajectories={name: self.trajectories[name] for name in chosen},
        )
