"""Pictures and masks of scenes, analytic and antialiased: the same scene at any size."""

from functools import lru_cache
from math import ceil, floor

import numpy as np
from jaxtyping import Bool, Float, UInt8

from saccade.data.scenes.shapes import distance
from saccade.data.scenes.world import BACKGROUNDS, COLOURS, Scene, Thing

Window = tuple[slice, slice]
MIN_SIZE = 32


def render(scene: Scene, size: int = 64) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Draw a scene.

    A pixel mixes what lies behind and the colour by `clip(1/2 - d, 0, 1)`, d the signed distance of its centre to the
    outline in pixels.
    `size`: side in pixels, at least 32.
    """
    check_size(size)
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = BACKGROUNDS[scene.background]
    for thing in scene.things:
        window, depth = _depth(thing, size)
        cover = np.clip(0.5 + depth, 0, 1)[..., None]
        picture[window] += cover * (np.asarray(COLOURS[thing.colour], np.float32) - picture[window])
    return (picture + 0.5).astype(np.uint8)


def masks(scene: Scene, size: int = 64) -> Bool[np.ndarray, "things {size} {size}"]:
    """Which pixels each thing owns: those at least half covered by it and by no later thing."""
    check_size(size)
    owned = np.zeros((len(scene.things), size, size), bool)
    for i, thing in enumerate(scene.things):
        window, depth = _depth(thing, size)
        inside = depth >= 0
        owned[:i, *window] &= ~inside
        owned[i, *window] = inside
    return owned


def check_size(size: int) -> None:
    """Raise `ValueError` for a side below 32 pixels, where small things can no longer be told apart."""
    if size < MIN_SIZE:
        raise ValueError(f"size={size} must be at least {MIN_SIZE} pixels; smaller shapes cannot be told apart")


def _depth(thing: Thing, size: int) -> tuple[Window, Float[np.ndarray, "h w"]]:
    """Where the thing may show, and how deep (in pixels) each pixel centre there lies inside its outline."""
    x0, y0, x1, y1 = thing.box
    rows, columns = _span(y0, y1, size), _span(x0, x1, size)
    centres, radius = _centres(size), thing.radius
    x, y = (centres[columns] - thing.x) / radius, (centres[rows] - thing.y) / radius
    return (rows, columns), -radius * size * distance(thing.shape, x[None, :], y[:, None])


def _span(low: float, high: float, size: int) -> slice:
    return slice(max(floor(low * size) - 1, 0), min(ceil(high * size) + 1, size))


@lru_cache(maxsize=32)
def _centres(size: int) -> Float[np.ndarray, "{size}"]:
    return (np.arange(size) + 0.5) / size
