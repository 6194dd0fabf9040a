"""What virtual observers did: trajectories in pixels, their scanpaths, and the saliency map of all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from saccade.core.scanpath import Points, Scanpath
from saccade.metrics.scanpaths.maps import saliency_map
from saccade.metrics.trajectories import Detected, NoFixationError
from saccade.papers.diffeye.coordinates import to_pixels

Detect = Callable[[Points], Detected]  # VelocityThreshold or DispersionThreshold


@dataclass(frozen=True, kw_only=True, eq=False)
class Observers:
    """Trajectories of `k` observers of each of `b` pictures.

    unit    (x, y) by shares of the sides, see `coordinates`; as they were sampled, which may be outside
    sizes   (width, height) of each picture, in pixels
    """

    unit: Float[np.ndarray, "b k l 2"]
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.unit)

    def trajectories(self, picture: int = 0) -> Float[np.ndarray, "k l 2"]:
        """In pixels of one picture; what left it is at its border."""
        return to_pixels(self.unit[picture], self.sizes[picture])

    def scanpaths(self, detect: Detect, picture: int = 0, *, skip: bool = False) -> tuple[Scanpath, ...]:
        """Each observer's fixations; with `skip`, of those who made one.

        Raises NoFixationError where an observer, or with `skip` every one, made none.
        """
        found, why = list[Scanpath](), NoFixationError("no observer")
        for path in self.trajectories(picture):
            try:
                found.append(detect(path).scanpath)
            except NoFixationError as none:
                if not skip:
                    raise
                why = none
        if not found:
            raise why
        return tuple(found)

    def saliency(
        self, detect: Detect, sigma: float, picture: int = 0, *, skip: bool = True
    ) -> Float64[np.ndarray, "h w"]:
        """Fixations of all observers, blurred by a Gaussian of `sigma` pixels, about 1 degree; sums to 1.

        Raises NoFixationError where nobody made a fixation.
        """
        points = np.concatenate([path.points for path in self.scanpaths(detect, picture, skip=skip)])
        return saliency_map(points, self.sizes[picture], sigma)
