"""Shelves of coloured shapes to search on, and somebody who searches them: data without a recording.

No two objects of a shelf are alike, so that the target is one of them. The searcher starts in the middle and goes on to
an unseen object with a probability that falls with its distance as a Gaussian does, and is greater for objects of the
target's colour; sometimes it looks once more at the same, or returns to one already seen. It stops at the target.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float32, Float64, Int64

from saccade.core.checks import check_whole
from saccade.data.scenes import COLOURS, SHAPES
from saccade.data.scenes.raster import coverage
from saccade.metrics.fidelity import Picture
from saccade.papers.oat.preparation import Boxes

KINDS = tuple(product(COLOURS, SHAPES))
RADIUS, GROUND = 0.36, 0.9  # share of a crop's side; of white


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """`kinds`: of each object, row by row, its place in `KINDS`; `target`: one of the objects.

    Raises ValueError for objects that do not fill the grid, are unknown or alike, and for a target that is none.
    """

    kinds: tuple[int, ...]
    target: int
    grid: tuple[int, int] = (3, 6)

    def __post_init__(self) -> None:
        if len(self.kinds) != self.grid[0] * self.grid[1] or len(set(self.kinds)) != len(self.kinds):
            raise ValueError(f"kinds={self.kinds} must be {self.grid[0]} x {self.grid[1]} objects, no two alike")
        if not 0 <= min(self.kinds) <= max(self.kinds) < len(KINDS):
            raise ValueError(f"kinds={self.kinds} must be places in KINDS, 0 to {len(KINDS) - 1}")
        if not 0 <= self.target < len(self.kinds):
            raise ValueError(f"target={self.target} must be one of {len(self.kinds)} objects")

    @property
    def colours(self) -> tuple[str, ...]:
        """Of each object."""
        return tuple(KINDS[kind][0] for kind in self.kinds)

    @property
    def places(self) -> Float64[np.ndarray, "p 2"]:
        """Row and column of each."""
        return np.array(list(np.ndindex(self.grid)), dtype=np.float64)

    def crops(self, side: int = 24) -> Float32[np.ndarray, "p 3 {side} {side}"]:
        """What each looks like."""
        return np.stack([drawn(kind, side) for kind in self.kinds])

    def picture(self, side: int = 24) -> Picture:
        """All of them, each in its place."""
        rows, columns = self.grid
        crops = self.crops(side).reshape(rows, columns, 3, side, side)
        return crops.transpose(0, 3, 1, 4, 2).reshape(1, rows * side, columns * side, 3)

    def boxes(self, side: int = 24) -> Boxes:
        """Left, top, right and bottom of each in the picture."""
        corners = self.places[:, ::-1] * side
        return np.concatenate((corners, corners + side), axis=1)


def sample_shelf(rng: np.random.Generator, grid: tuple[int, int] = (3, 6)) -> Shelf:
    """A random one. Raises ValueError for a grid with more objects than there are kinds."""
    count = grid[0] * grid[1]
    if not 1 <= count <= len(KINDS):
        raise ValueError(f"grid={grid} holds {count} objects; there are {len(KINDS)} that differ")
    kinds = rng.choice(len(KINDS), count, replace=False)
    return Shelf(kinds=tuple(kinds.tolist()), target=int(rng.integers(count)), grid=grid)


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """How somebody searches.

    reach     standard deviation of a jump, in places
    colour    how many times likelier an object of the target's colour is, in nats
    refix     probability of staying on an object for another fixation
    revisit   probability of returning to an object that was seen before, otherwise
    longest   fixations after which it gives up
    Raises ValueError for options out of range.
    """

    reach: float = 1.5
    colour: float = 1.0
    refix: float = 0.1
    revisit: float = 0.1
    longest: int = 20

    def __post_init__(self) -> None:
        check_whole(1, longest=self.longest)
        if not (self.reach > 0 and 0 <= self.refix < 1 and 0 <= self.revisit < 1):
            raise ValueError(
                f"reach={self.reach} must be above 0, refix={self.refix} and revisit={self.revisit} in [0, 1)"
            )

    def search(self, shelf: Shelf, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """The objects fixated, the target last unless it gives up."""
        alike = np.array([each == shelf.colours[shelf.target] for each in shelf.colours])
        at, seen, path = (np.array(shelf.grid) - 1) / 2, np.zeros(len(shelf.kinds), dtype=bool), []
        while len(path) < self.longest and (not path or path[-1] != shelf.target):
            if not path or rng.random() >= self.refix:
                odds = self._odds(shelf, at, self._open(seen, path, rng), alike)
                path.append(int(rng.choice(len(odds), p=odds / odds.sum())))
            else:
                path.append(path[-1])
            at, seen[path[-1]] = shelf.places[path[-1]], True
        return np.array(path)

    def _open(self, seen: np.ndarray, path: list[int], rng: np.random.Generator) -> np.ndarray:
        """Which objects may come next: new ones, or now and then those seen before the last."""
        back = seen.copy()
        back[path[-1:]] = False
        return back if back.any() and rng.random() < self.revisit else ~seen

    def _odds(self, shelf: Shelf, at: np.ndarray, allowed: np.ndarray, alike: np.ndarray) -> np.ndarray:
        near = -((shelf.places - at) ** 2).sum(1) / (2 * self.reach**2) + self.colour * alike
        return np.where(allowed, np.exp(near - near[allowed].max()), 0)


def nearest_first(shelf: Shelf) -> Int64[np.ndarray, " n"]:
    """Always on to the nearest unseen object, from the middle, until the target."""
    at, left, path = (np.array(shelf.grid) - 1) / 2, np.ones(len(shelf.kinds), dtype=bool), []
    while not path or path[-1] != shelf.target:
        away = np.where(left, np.linalg.norm(shelf.places - at, axis=1), np.inf)
        path.append(int(away.argmin()))
        at, left[path[-1]] = shelf.places[path[-1]], False
    return np.array(path)


def drawn(kind: int, side: int) -> Float32[np.ndarray, "3 {side} {side}"]:
    """One object on a light ground."""
    colour, shape = KINDS[kind]
    cover = coverage(shape, 0.5, 0.5, RADIUS, side)
    rgb = np.array(COLOURS[colour])[:, None, None] / 255
    return (GROUND + cover * (rgb - GROUND)).astype(np.float32)
