"""From fixations in pixels to objects: the box each is on, boxes in reading order, trials of unusual length."""

from collections.abc import Sequence, Sized

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from saccade.metrics.scanpaths import check_points

TOLERANCE = 10  # pixels
SPREAD = 3.0  # standard deviations

Boxes = Shaped[np.ndarray, "m 4"]


def to_objects(points: Shaped[np.ndarray, "n d"], boxes: Boxes) -> Int64[np.ndarray, " n"]:
    """The box that each point is in, else the one with the nearest centre; of several that hold it likewise.

    points   (x, y), and seconds if any
    boxes    (left, top, right, bottom)
    Raises ValueError as `check_points` does, and for boxes that are none or not in that order.
    """
    at, found = check_points(points)[:, :2], check_boxes(boxes)
    inside = ((at[:, None] >= found[:, :2]) & (at[:, None] <= found[:, 2:])).all(-1)
    away = np.linalg.norm(at[:, None] - centres(found), axis=-1)
    within = np.where(inside, away, np.inf)
    return np.where(np.isfinite(within.min(1)), within.argmin(1), away.argmin(1))


def sort_boxes(boxes: Boxes, tolerance: float = TOLERANCE) -> Int64[np.ndarray, " m"]:
    """Indices of the boxes row by row from the top, each from the left; tops within `tolerance` pixels are one row.

    Raises ValueError as `to_objects` does.
    """
    found = check_boxes(boxes)
    order = np.argsort(found[:, 1], kind="stable")
    row, tops, rows = 0, found[order, 1], []
    start = tops[0]
    for top in tops:
        if top - start > tolerance:
            row, start = row + 1, top
        rows.append(row)
    return order[np.lexsort((found[order, 0], rows))]


def usual_lengths(paths: Sequence[Sized], spread: float = SPREAD) -> Bool[np.ndarray, " n"]:
    """Which paths are no more than `spread` standard deviations longer or shorter than the mean.

    Raises ValueError without any path.
    """
    if not len(paths):
        raise ValueError("paths is empty; give at least one")
    lengths = np.array([len(path) for path in paths], dtype=np.float64)
    return np.abs(lengths - lengths.mean()) <= spread * lengths.std()


def centres(boxes: Boxes) -> Shaped[np.ndarray, "m 2"]:
    """The middle (x, y) of each."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def check_boxes(boxes: Boxes) -> Shaped[np.ndarray, "m 4"]:
    """The boxes as float64. Raises ValueError for none, and for a box that is not (left, top, right, bottom)."""
    found = np.asarray(boxes, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != 4 or not len(found):
        raise ValueError(f"boxes of shape {found.shape} must be (m, 4) with m > 0: left, top, right, bottom")
    bad = np.flatnonzero(~(found[:, :2] < found[:, 2:]).all(1))
    if len(bad):
        raise ValueError(f"boxes {bad.tolist()[:5]} do not have left < right and top < bottom; give the corners")
    return found


def split_trials(count: int, *, seed: int = 0) -> tuple[Int64[np.ndarray, " _"], ...]:
    """Random trials to train on, to stop by and to judge by: 80, 10 and 10 in a hundred.

    Raises ValueError for fewer than three, one for each.
    """
    if count < 3:
        raise ValueError(f"count={count} must be at least 3, a trial for each part")
    order, held = np.random.default_rng(seed).permutation(count), max(1, count // 10)
    return order[: count - 2 * held], order[count - 2 * held : count - held], order[count - held :]


def leave_out(
    layouts: Sequence[object], targets: Sequence[object], layout: object, target: object
) -> tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]:
    """Trials of all other pairs of layout and target, and those of this pair, to judge by.

    Raises ValueError where one of both would be empty.
    """
    left = np.array([pair == (layout, target) for pair in zip(layouts, targets, strict=True)], dtype=bool)
    if left.all() or not left.any():
        raise ValueError(f"layout={layout!r} with target={target!r} must be of some trials, and not of all")
    return np.flatnonzero(~left), np.flatnonzero(left)
