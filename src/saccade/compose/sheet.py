"""A composition on one sheet: its reference pictures, the places of its entities, and what was drawn."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from saccade.compose.verb import Composed
from saccade.metrics.fidelity import Picture
from saccade.ui.sheets import write_rows

COLOURS = ((0.93, 0.2, 0.55), (0.1, 0.55, 0.9), (0.95, 0.7, 0.1), (0.25, 0.7, 0.35), (0.55, 0.35, 0.85))
OUTLINE = 2  # pixels of a region's edge at 64 pixels a side


def panels(composed: Composed, number: int) -> dict[str, Picture]:
    """The pictures of one row by their captions."""
    asked = composed.record.request
    shown = {
        f"reference {i}: {text}": picture
        for i, (text, picture) in enumerate(zip(asked.texts, asked.references, strict=True))
        if picture is not None
    }
    drawn = composed.pictures[number : number + 1]
    return {**shown, "; ".join(asked.texts): outlined(drawn, composed.regions), f"seed {asked.seeds[number]}": drawn}


def outlined(picture: Picture, regions: Bool[np.ndarray, "r h w"]) -> Picture:
    """The picture with an edge around each region, in a colour of its own."""
    width, found = max(OUTLINE * regions.shape[1] // 64, 1), picture.copy()
    for number, region in enumerate(regions):
        found[0][region & ~_shrunk(region, width)] = COLOURS[number % len(COLOURS)]
    return found


def write_sheet(composed: Composed, path: Path) -> Path:
    """One row a picture; a page that needs nothing else where the name ends in .html, else a picture."""
    rows = [panels(composed, number) for number in range(len(composed.pictures))]
    return write_rows(rows, path, title="saccade compose", captions=[f"{composed.density:.0%} of all pairs computed"])


def _shrunk(region: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """The region without its outermost pixels."""
    inner = np.pad(region, width)
    for axis in (0, 1):
        inner = np.min([np.roll(inner, shift, axis) for shift in range(-width, width + 1)], axis=0)
    return inner[width:-width, width:-width]
