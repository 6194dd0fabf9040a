"""Pictures of three coloured discs, and made observers who look at them in turn: gaze data without a file.

Every observer begins in the middle and visits the red, the green and the blue disc. Gaze rests at each, jumps to the
next, and trembles all the while with noise of a 1/f spectrum; observers differ in where they settle, when they
jump and how they tremble.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saccade.core.scanpath import Points, Scanpath
from saccade.data.gaze import GazeSet, Picture

ORDER = ("red", "green", "blue")
COLOURS = np.array([[0.9, 0.15, 0.15], [0.15, 0.8, 0.2], [0.2, 0.3, 0.95]])
GROUND = 0.5
MILLISECONDS = 16.0  # of a sample
JUMP = 2  # samples of a saccade
TREMBLE = 0.01  # of the side
TRIES = 1000


@dataclass(frozen=True, kw_only=True)
class DiscViews:
    """How to make them. Raises ValueError for sizes too small to hold three discs, or a path too short for four stops.

    side, radius   in pixels
    length         samples of a trajectory
    scatter        how far from a disc's middle observers settle, a standard deviation in pixels
    """

    side: int = 64
    radius: int = 7
    length: int = 64
    scatter: float = 1.0

    def __post_init__(self) -> None:
        if self.side < 8 * self.radius or self.radius < 1:
            raise ValueError(f"side={self.side} must be at least 8 radii of {self.radius} pixels to hold three discs")
        if self.length < 16:
            raise ValueError(f"length={self.length} must be at least 16 samples, four stops and the ways between")

    def places(self, rng: np.random.Generator) -> Points:
        """Middles of the red, green and blue disc, (x, y); discs do not touch, nor the middle of the picture.

        Raises ValueError where no such places are found.
        """
        for _ in range(TRIES):
            found = rng.integers(self.radius, self.side - self.radius, size=(3, 2)).astype(np.float64)
            stops = np.concatenate((self.middle, found))
            apart = np.linalg.norm(stops[:, None] - stops[None], axis=-1) + np.eye(4) * self.side
            if apart.min() > 2 * self.radius + 1:
                return found
        raise ValueError(
            f"side={self.side} leaves no room for three discs of radius={self.radius}; choose smaller ones"
        )

    @property
    def middle(self) -> Points:
        """Of the picture, where every path begins."""
        return np.full((1, 2), (self.side - 1) / 2)

    def picture(self, places: Points) -> Picture:
        """The discs on grey, in [0, 1]."""
        y, x = np.mgrid[: self.side, : self.side]
        picture = np.full((self.side, self.side, 3), GROUND)
        for (at_x, at_y), colour in zip(places, COLOURS, strict=True):
            picture[(x - at_x) ** 2 + (y - at_y) ** 2 <= self.radius**2] = colour
        return picture[None].astype(np.float32)

    def look(self, places: Points, rng: np.random.Generator) -> tuple[Points, Scanpath]:
        """One observer's trajectory and the scanpath it is made of."""
        stops = np.concatenate((self.middle, places))
        stops = stops + rng.normal(0, self.scatter, stops.shape)
        leaves = self._leaves(rng)
        at = np.interp(np.arange(self.length), *self._knots(leaves))
        low = np.minimum(at.astype(int), 2)
        path = stops[low] + (at - low)[:, None] * (stops[low + 1] - stops[low])
        path = np.clip(path + TREMBLE * self.side * pink(self.length, rng), 0, self.side - 1)
        starts, ends = [0, *(leaves + JUMP)], [*leaves, self.length]
        durations = MILLISECONDS * (np.array(ends) - np.array(starts))
        return path, Scanpath(points=np.clip(stops, 0, self.side - 1), durations=durations)

    def _leaves(self, rng: np.random.Generator) -> np.ndarray:
        """Samples at which the observer leaves the first three stops: about evenly, by an eighth of a stop's time."""
        even = np.arange(1, 4) * self.length / 4 - JUMP / 2
        return np.rint(even + rng.uniform(-1, 1, 3) * self.length / 32).astype(int)

    def _knots(self, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples, and which stop the observer is at: 0 to 3."""
        times = np.stack((leaves, leaves + JUMP), -1).ravel()
        return times, np.array([0, 1, 1, 2, 2, 3])


def pink(length: int, rng: np.random.Generator) -> Float[np.ndarray, "t 2"]:
    """Noise whose power falls as 1/f, of mean 0 and standard deviation 1, in x and y apart."""
    frequencies = np.fft.rfftfreq(length)
    share = np.sqrt(np.divide(1, frequencies, out=np.zeros_like(frequencies), where=frequencies > 0))
    spectrum = share[:, None] * (rng.normal(size=(len(share), 2)) + 1j * rng.normal(size=(len(share), 2)))
    noise = np.fft.irfft(spectrum, n=length, axis=0)
    return noise / noise.std(0)


def disc_places(count: int, *, seed: int = 0, views: DiscViews | None = None) -> dict[str, Points]:
    """Names of `count` pictures and where their discs are. Raises ValueError for fewer than one."""
    if count < 1:
        raise ValueError(f"count={count} must be at least one picture")
    made = views or DiscViews()
    return {f"discs-{i:05d}": made.places(np.random.default_rng([seed, i])) for i in range(count)}


def disc_gaze(count: int, observers: int = 4, *, seed: int = 0, views: DiscViews | None = None) -> GazeSet:
    """A set of `count` pictures with `observers` each, the same for the same seed.

    Raises ValueError for fewer than one of either.
    """
    made, places = views or DiscViews(), disc_places(count, seed=seed, views=views)
    if observers < 1:
        raise ValueError(f"observers={observers} must be at least one")
    looks = {
        name: [made.look(places[name], np.random.default_rng([seed, i, k + 1])) for k in range(observers)]
        for i, name in enumerate(places)
    }
    return GazeSet(
        names=tuple(places),
        size=(made.side, made.side),
        scanpaths={name: tuple(scanpath for _, scanpath in found) for name, found in looks.items()},
        trajectories={name: tuple(path for path, _ in found) for name, found in looks.items()},
        picture=lambda name: made.picture(places[name]),
    )
