"""How well an object was dragged: is it at its new place as it was, and is nothing of it at the old one (step 6)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saccade.metrics.fidelity import Picture
from saccade.metrics.regions import within
from saccade.papers.diffuhaul.blobs import Blob, freed

UNSEEN = 0.03  # differences of colour below this share are no feature of the simple judge
Judge = Callable[[Float[np.ndarray, "y x 3"]], Float[np.ndarray, " c"]]  # a crop in [0, 1] to its features


@dataclass(frozen=True, kw_only=True)
class DragScores:
    """Foreground and trace are cosines of features, of the object in the source with

    foreground  the crop at the new place, higher is better
    traces      the crop at the old place, lower is better
    kept_psnr   in dB, outside of both places
    """

    foreground: float
    traces: float
    kept_psnr: float


def score_drag(
    before: Picture, after: Picture, source: Blob, target: Blob, judge: Judge, dilation: int = 2
) -> DragScores:
    """Of one picture (1 h w 3) in [0, 1] before and after.

    judge  image features of a crop: those of DINO or CLIP, or `mean_colours`
    Raises ValueError for pictures of different sizes.
    """
    if before.shape != after.shape or len(before) != 1:
        raise ValueError(f"before {before.shape} and after {after.shape} must be one picture each, of one size")
    size = before.shape[1], before.shape[2]
    own = judge(crop(before[0], source))
    outside = freed(source, target, size, dilation).numpy() == 0
    return DragScores(
        foreground=cosine(own, judge(crop(after[0], target))),
        traces=cosine(own, judge(crop(after[0], source))),
        kept_psnr=within(after, before, outside).psnr,
    )


def crop(picture: Float[np.ndarray, "h w 3"], blob: Blob) -> Float[np.ndarray, "y x 3"]:
    """The box around a blob; at least a pixel."""
    x0, y0, x1, y1 = blob.box
    rows, columns = (
        slice(min(int(low * side), side - 1), max(int(np.ceil(high * side)), int(low * side) + 1))
        for low, high, side in ((y0, y1, picture.shape[0]), (x0, x1, picture.shape[1]))
    )
    return picture[rows, columns]


def mean_colours(crop: Float[np.ndarray, "y x 3"], cells: int = 4) -> Float[np.ndarray, " c"]:
    """Features of a simple judge: what each of cells x cells has of each colour beyond the crop's own border."""
    border = np.concatenate((crop[0], crop[-1], crop[:, 0], crop[:, -1]))
    parts = [part for row in np.array_split(crop, cells) for part in np.array_split(row, cells, axis=1) if part.size]
    found = np.concatenate([part.mean((0, 1)) for part in parts]) - np.tile(np.median(border, axis=0), len(parts))
    return np.where(np.abs(found) < UNSEEN, 0.0, found)


def cosine(one: Float[np.ndarray, " c"], other: Float[np.ndarray, " c"]) -> float:
    """0 where one of them is nothing."""
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norm if norm > 1e-12 else 0.0
