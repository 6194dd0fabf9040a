"""What a scene may hold: coloured shapes of two sizes on a plain background, on a grid of nine named places.

Lengths are shares of the picture's side; x grows to the right, y downwards; a thing's (x, y) is the centre of its box.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saccade.core.checks import check_word
from saccade.data.scenes.shapes import SHAPES, extents

Box = tuple[float, float, float, float]
RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {  # no two nearer than 114 in RGB, none nearer than 127 to a background
    "red": (215, 20, 45),
    "green": (30, 165, 60),
    "blue": (40, 85, 235),
    "yellow": (250, 230, 60),
    "purple": (150, 45, 205),
    "orange": (250, 125, 15),
    "cyan": (40, 210, 225),
}
BACKGROUNDS: dict[str, RGB] = {
    "black": (15, 15, 15),
    "gray": (165, 165, 165),
    "navy": (18, 24, 90),
    "white": (242, 242, 242),
}
SIZES: dict[str, float] = {"small": 0.09, "large": 0.145}  # radius
COLUMNS: dict[str, float] = {"left": 0.2, "center": 0.5, "right": 0.8}
ROWS: dict[str, float] = {"top": 0.2, "center": 0.5, "bottom": 0.8}


def _place_name(row: str, column: str) -> str:
    return "center" if row == column else " ".join(word for word in (row, column) if word != "center")


PLACES: dict[str, tuple[float, float]] = {
    _place_name(row, column): (x, y) for row, y in ROWS.items() for column, x in COLUMNS.items()
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One shape; `x`, `y` in [0, 1] are the centre of its box.

    Raises ValueError for options out of range.
    """

    colour: str
    shape: str
    size: str
    x: float
    y: float

    def __post_init__(self) -> None:
        check_word(COLOURS, colour=self.colour)
        check_word(SHAPES, shape=self.shape)
        check_word(SIZES, size=self.size)
        for name, value in (("x", self.x), ("y", self.y)):
            if not 0 <= value <= 1:
                raise ValueError(
                    f"{name}={value} of a {self.colour} {self.shape} must be in [0, 1], a share of the side"
                )

    @property
    def radius(self) -> float:
        """Nominal radius as a share of the side."""
        return SIZES[self.size]

    @property
    def place(self) -> str:
        """Name of the nearest of the nine places."""
        return nearest_place(self.x, self.y)

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1) as shares of the side; the shape touches all four edges."""
        half_width, half_height = (self.radius * extent for extent in extents(self.shape))
        return self.x - half_width, self.y - half_height, self.x + half_width, self.y + half_height


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Things on a background; where two overlap, the later one lies in front."""

    things: tuple[Thing, ...]
    background: str

    def __post_init__(self) -> None:
        check_word(BACKGROUNDS, background=self.background)

    def box(self, i: int) -> Box:
        """Box of thing `i`."""
        return self.things[i].box

    def boxes(self) -> Float[np.ndarray, "things 4"]:
        """Boxes of all things, (x0, y0, x1, y1) as shares of the side."""
        return np.array([thing.box for thing in self.things], dtype=np.float64).reshape(-1, 4)


def nearest_place(x: float, y: float) -> str:
    """Name of the place whose centre is nearest to (x, y)."""
    row = min(ROWS, key=lambda name: abs(ROWS[name] - y))
    column = min(COLUMNS, key=lambda name: abs(COLUMNS[name] - x))
    return _place_name(row, column)
