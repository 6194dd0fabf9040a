"""Regions of a picture shown by an edge around each."""

import numpy as np
from jaxtyping import Bool

from saccade.metrics.fidelity import Picture

COLOURS = ((0.93, 0.2, 0.55), (0.1, 0.55, 0.9), (0.95, 0.7, 0.1), (0.25, 0.7, 0.35), (0.55, 0.35, 0.85))
OUTLINE = 2  # pixels of a region's edge at 64 pixels a side


def outlined(picture: Picture, regions: Bool[np.ndarray, "r h w"]) -> Picture:
    """The picture with an edge around each region, in a colour of its own."""
    width, found = max(OUTLINE * regions.shape[1] // 64, 1), picture.copy()
    for number, region in enumerate(regions):
        found[0][region & ~_shrunk(region, width)] = COLOURS[number % len(COLOURS)]
    return found


def _shrunk(region: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """The region without its outermost pixels."""
    inner = np.pad(region, width)
    for axis in (0, 1):
        inner = np.min([np.roll(inner, shift, axis) for shift in range(-width, width + 1)], axis=0)
    return inner[width:-width, width:-width]
