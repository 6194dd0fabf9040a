"""The four shapes as signed distances, in units of the nominal radius, around the centre of their box.

Negative inside; exact beside straight edges and arcs, a bound near corners, which is all that antialiasing needs.
Areas differ by less than a third, so that size and shape can be read apart.
"""

from collections.abc import Callable
from math import hypot, pi

import numpy as np
from jaxtyping import Float

Plane = Float[np.ndarray, "*#grid"]

HALF_SQUARE = 0.9
HALF_BASE, HALF_HEIGHT = 1.14, 1.08
ARM, HALF_ARM_WIDTH = 1.12, 0.36


def circle(x: Plane, y: Plane) -> Plane:
    """Unit disc."""
    return np.sqrt(x * x + y * y) - 1


def square(x: Plane, y: Plane) -> Plane:
    """Axis-parallel square."""
    return np.maximum(np.abs(x), np.abs(y)) - HALF_SQUARE


def triangle(x: Plane, y: Plane) -> Plane:
    """Isosceles triangle with its tip up."""
    slope = hypot(2 * HALF_HEIGHT, HALF_BASE)
    sides = (2 * HALF_HEIGHT * np.abs(x) - HALF_BASE * (y + HALF_HEIGHT)) / slope
    return np.maximum(sides, y - HALF_HEIGHT)


def cross(x: Plane, y: Plane) -> Plane:
    """Upright plus sign."""
    across, along = np.abs(x), np.abs(y)
    upright = np.maximum(across - HALF_ARM_WIDTH, along - ARM)
    return np.minimum(upright, np.maximum(across - ARM, along - HALF_ARM_WIDTH))


_DISTANCES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "cross": cross,
}
_EXTENTS = {
    "circle": (1.0, 1.0),
    "square": (HALF_SQUARE, HALF_SQUARE),
    "triangle": (HALF_BASE, HALF_HEIGHT),
    "cross": (ARM, ARM),
}
_AREAS = {
    "circle": pi,
    "square": 4 * HALF_SQUARE**2,
    "triangle": 2 * HALF_BASE * HALF_HEIGHT,
    "cross": 8 * ARM * HALF_ARM_WIDTH - 4 * HALF_ARM_WIDTH**2,
}
SHAPES: tuple[str, ...] = tuple(_DISTANCES)


def distance(shape: str, x: Plane, y: Plane) -> Plane:
    """Signed distance from (x, y) to the outline of `shape`."""
    return _DISTANCES[shape](x, y)


def extents(shape: str) -> tuple[float, float]:
    """Half width and half height of the shape's box."""
    return _EXTENTS[shape]


def area(shape: str) -> float:
    """Area of the shape of radius one."""
    return _AREAS[shape]


def centroid_drop(shape: str) -> float:
    """How far the shape's centre of mass lies below the centre of its box."""
    return HALF_HEIGHT / 3 if shape == "triangle" else 0.0
