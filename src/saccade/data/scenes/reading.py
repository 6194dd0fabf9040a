"""Read a picture back: which things it shows, of what colour, shape and size, where, and on what background.

A piece of one colour gets the shape whose outline of the same area and centre of mass overlaps it best. Nothing is
assumed about how many things there are, and what fits no word reads as None rather than as the nearest word.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from PIL import Image

from saccade.data.rgb import as_rgb
from saccade.data.scenes.pieces import OFF_COLOUR, STRANGE, Mask, explain, pieces
from saccade.data.scenes.raster import coverage
from saccade.data.scenes.shapes import SHAPES, area, centroid_drop
from saccade.data.scenes.world import BACKGROUNDS, COLOURS, RGB, SIZES, Box, nearest_place

Picture = np.ndarray | Image.Image

MIN_SIDE, MAX_SIDE = 48, 512
MIN_FIT = 0.75  # overlap (intersection over union) below which a piece has no known shape
MAX_STRETCH = 1.4  # ratio of radii from which a thing is neither small nor large
EDGES = (1.0, 3.0)  # widths in pixels of the outlines tried: sharp and blurred
_NAMES = tuple(COLOURS)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One thing as read; None for what fits no word. `fit` in [0, 1]: overlap with the best shape's outline."""

    colour: str | None
    shape: str | None
    size: str | None
    x: float
    y: float
    box: Box
    fit: float
    mask: Mask = field(repr=False, compare=False)

    @property
    def place(self) -> str:
        """Name of the nearest of the nine places."""
        return nearest_place(self.x, self.y)


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What a picture shows, from top to bottom; `background` is None if it is like none of the known ones."""

    things: tuple[Seen, ...]
    background: str | None


def parse(image: Picture) -> Parsed:
    """Read a picture.

    `image`: RGB, square, 48 to 512 pixels wide: a PIL image, or an array (h, w, 3) of uint8 or of floats in [0, 1].
    """
    pixels = _pixels(image)
    ground = _ground(pixels)
    found = pieces(explain(pixels, ground))
    things = [_read(pixels, ground, mask, None if tone == STRANGE else _NAMES[tone]) for tone, mask in found]
    background = _nearest(ground, BACKGROUNDS)
    return Parsed(things=tuple(sorted(things, key=lambda seen: (seen.y, seen.x))), background=background)


def _pixels(image: Picture) -> Float[np.ndarray, "n n 3"]:
    """The picture as float32 in [0, 255], checked."""
    array = np.asarray(as_rgb(image, "image")) if isinstance(image, Image.Image) else image
    if array.ndim != 3 or array.shape[2] != 3 or array.shape[0] != array.shape[1]:
        raise ValueError(f"image of shape {array.shape} must be square RGB, (n, n, 3); move channels last and crop it")
    if not MIN_SIDE <= len(array) <= MAX_SIDE:
        raise ValueError(f"image of side {len(array)} must be {MIN_SIDE} to {MAX_SIDE} pixels; resize it")
    if array.dtype == np.uint8:
        return array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"image of dtype {array.dtype} must be uint8, or floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image of floats lies in [{low:.3g}, {high:.3g}] and must lie in [0, 1]; scale or clip it")
    return array.astype(np.float32) * 255


def _ground(pixels: Float[np.ndarray, "n n 3"]) -> Float[np.ndarray, "3"]:
    """Colour of the background: the median of the border, which no thing reaches."""
    border = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return np.median(np.concatenate(border), axis=0)


def _read(pixels: np.ndarray, ground: np.ndarray, mask: Mask, colour: str | None) -> Seen:
    """Measure one piece: its exact area and centre by coverage, its shape by overlap, its size by area."""
    cover = _cover(pixels, ground, mask, colour)
    n, mass = len(mask), float(cover.sum())
    grid = (np.arange(n) + 0.5) / n
    x, y = float(cover.sum(0) @ grid) / mass, float(cover.sum(1) @ grid) / mass
    fits = {shape: _fit(cover, shape, x, y) for shape in SHAPES}
    shape = max(fits, key=lambda name: fits[name])
    radius = _radius(cover, shape)
    return Seen(
        colour=colour,
        shape=shape if fits[shape] >= MIN_FIT else None,
        size=_size(radius),
        x=x,
        y=y - centroid_drop(shape) * radius,
        box=_box(mask),
        fit=fits[shape],
        mask=mask,
    )


def _cover(pixels: np.ndarray, ground: np.ndarray, mask: Mask, colour: str | None) -> Float[np.ndarray, "n n"]:
    """How far each pixel in and around a piece is covered by its colour."""
    from scipy import ndimage

    if colour is None:
        return mask.astype(np.float32)
    tone = np.array(COLOURS[colour]) - ground
    near = ndimage.binary_dilation(mask, iterations=max(1, len(mask) // 64))
    return np.where(near, np.clip((pixels - ground) @ tone / (tone @ tone), 0, 1), 0)


def _fit(cover: Float[np.ndarray, "n n"], shape: str, x: float, y: float) -> float:
    """Intersection over union with the outline of `shape` that has the same area and centre of mass."""
    radius = _radius(cover, shape)
    y -= centroid_drop(shape) * radius
    ideals = (coverage(shape, x, y, radius, len(cover), edge) for edge in EDGES)
    return max(float(np.minimum(cover, ideal).sum() / np.maximum(cover, ideal).sum()) for ideal in ideals)


def _radius(cover: Float[np.ndarray, "n n"], shape: str) -> float:
    return float(np.sqrt(cover.sum() / area(shape))) / len(cover)


def _size(radius: float) -> str | None:
    away = {name: max(size / radius, radius / size) for name, size in SIZES.items()}
    best = min(away, key=lambda name: away[name])
    return best if away[best] <= MAX_STRETCH else None


def _box(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, y0, x1, y1 = (float(edge) / len(mask) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return x0, y0, x1, y1


def _nearest(colour: Float[np.ndarray, "3"], known: dict[str, RGB]) -> str | None:
    away = {name: float(np.linalg.norm(colour - np.array(tone))) for name, tone in known.items()}
    best = min(away, key=lambda name: away[name])
    return best if away[best] <= OFF_COLOUR else None
