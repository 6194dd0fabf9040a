"""Pictures and masks of scenes, analytic and antialiased: the same scene at any size."""

from functools import lru_cache
from math import ceil, floor

import numpy as np
from jaxtyping import Bool, Float, UInt8

from saccade.data.scenes.shapes import distance, extents
from saccade.data.scenes.world import BACKGROUNDS, COLOURS, Scene, Thing

Window = tuple[slice, slice]
MIN_SIZE = 32


def render(scene: Scene, size: int = 64) -> UInt8[np.ndarray, "n n 3"]:
    """Draw a scene.

    A pixel mixes what lies behind and the colour by `clip(1/2 - d, 0, 1)`, d the signed distance of its centre to the
    outline in pixels.
    `size`: side in pixels, at least 32.
    """
    check_size(size)
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = BACKGROUNDS[scene.background]
    for thing in scene.things:
        window, depth = _thing_depth(thing, size)
        cover = np.clip(0.5 + depth, 0, 1)[..., None]
        picture[window] += cover * (np.asarray(COLOURS[thing.colour], np.float32) - picture[window])
    return (picture + 0.5).astype(np.uint8)


def masks(scene: Scene, size: int = 64) -> Bool[np.ndarray, "things n n"]:
    """Which pixels each thing owns: those at least half covered by it and by no later thing."""
    check_size(size)
    owned = np.zeros((len(scene.things), size, size), bool)
    for i, thing in enumerate(scene.things):
        window, depth = _thing_depth(thing, size)
        inside = depth >= 0
        owned[:i, *window] &= ~inside
        owned[i, *window] = inside
    return owned


def check_size(size: int) -> None:
    """Raise `ValueError` for a side below 32 pixels, where small things can no longer be distinguished."""
    if size < MIN_SIZE:
        raise ValueError(f"size={size} must be at least {MIN_SIZE} pixels; smaller shapes cannot be distinguished")


def coverage(shape: str, x: float, y: float, radius: float, size: int, edge: float = 1) -> Float[np.ndarray, "n n"]:
    """How far each pixel is covered by one shape of any radius; lengths are shares of the side, `edge` pixels."""
    cover = np.zeros((size, size))
    window, depth = _depth(shape, x, y, radius, size)
    cover[window] = np.clip(0.5 + depth / edge, 0, 1)
    return cover


def _depth(shape: str, x: float, y: float, radius: float, size: int) -> tuple[Window, Float[np.ndarray, "h w"]]:
    """Where a shape may show, and how deep (in pixels) each pixel centre there lies inside its outline."""
    half_width, half_height = (radius * extent for extent in extents(shape))
    rows, columns = _span(y - half_height, y + half_height, size), _span(x - half_width, x + half_width, size)
    centres = _centres(size)
    across, down = (centres[columns] - x) / radius, (centres[rows] - y) / radius
    return (rows, columns), -radius * size * distance(shape, across[None, :], down[:, None])


def _thing_depth(thing: Thing, size: int) -> tuple[Window, Float[np.ndarray, "h w"]]:
    return _depth(thing.shape, thing.x, thing.y, thing.radius, size)


def _span(low: float, high: float, size: int) -> slice:
    return slice(max(floor(low * size) - 1, 0), min(ceil(high * size) + 1, size))


@lru_cache(maxsize=32)
def _centres(size: int) -> Float[np.ndarray, " n"]:
    return (np.arange(size) + 0.5) / size
