"""Scanpaths and maps of saliency over a picture: numbered fixations, how long they last, boxes of objects."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from saccade.core.scanpath import Points, Scanpath, check_points
from saccade.metrics.fidelity import Picture

LONGEST = 300.0  # milliseconds of a large disc; twice as large at most
SMALLEST, GROWTH = 20.0, 160.0  # areas of discs, in square points

Path = Scanpath | Points
Boxes = Shaped[np.ndarray, "_ 4"]
Map = Shaped[np.ndarray, "_ _"]


def draw_scanpath(
    axes: Axes, picture: Picture, path: Path, title: str = "", colour: str = "C1", boxes: Boxes | None = None
) -> None:
    """Numbered discs joined in order; larger, the longer the eyes rested, where that is known.

    path    fixations (x, y) in pixels of the picture, with milliseconds where it is a `Scanpath`
    boxes   (left, top, right, bottom) of objects, drawn as outlines
    Raises ValueError for fixations that are none or no numbers.
    """
    points = check_points(path.points if isinstance(path, Scanpath) else path)[:, :2]
    durations = path.durations if isinstance(path, Scanpath) else np.full(len(points), LONGEST)
    draw_picture(axes, picture, title)
    draw_boxes(axes, boxes)
    axes.plot(*points.T, color=colour, linewidth=1)
    areas = SMALLEST + GROWTH * np.minimum(durations / LONGEST, 2)
    axes.scatter(*points.T, s=areas, color=colour, edgecolor="white", linewidth=0.7, alpha=0.8, zorder=2)
    for number, (x, y) in enumerate(points.tolist(), 1):
        axes.annotate(str(number), (x, y), color="white", fontsize=6, ha="center", va="center", zorder=3)


def draw_saliency(axes: Axes, picture: Picture, saliency: Map, title: str = "") -> None:
    """The map, of any resolution, over the picture."""
    draw_picture(axes, picture, title)
    height, width = picture.shape[1:3]
    axes.imshow(saliency, cmap="inferno", alpha=0.6, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def draw_boxes(axes: Axes, boxes: Boxes | None) -> None:
    """Outlines of objects, if any."""
    for left, top, right, bottom in np.empty((0, 4)) if boxes is None else np.asarray(boxes, dtype=np.float64):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="0.5", linewidth=0.8))


def draw_picture(axes: Axes, picture: Picture, title: str = "") -> None:
    """The picture alone, without axes."""
    axes.imshow(picture[0])
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def row_of(count: int, height: float = 2.2) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels beside each other."""
    figure = Figure(figsize=(1.33 * height * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def scanpath_figure(
    picture: Picture,
    paths: Mapping[str, Path],
    saliency: Mapping[str, Map] | None = None,
    boxes: Boxes | None = None,
) -> Figure:
    """One picture in a row: a panel for each scanpath, then for each map, by their titles.

    Raises ValueError where there is nothing to draw, and as `draw_scanpath` does.
    """
    maps = saliency or {}
    if not paths and not maps:
        raise ValueError("paths and saliency are empty; give at least one of them")
    figure, axes = row_of(len(paths) + len(maps))
    for number, (ax, (title, path)) in enumerate(zip(axes, paths.items(), strict=False)):
        draw_scanpath(ax, picture, path, title, f"C{number % 10}", boxes)
    for ax, (title, each) in zip(axes[len(paths) :], maps.items(), strict=True):
        draw_saliency(ax, picture, each, title)
    return figure
