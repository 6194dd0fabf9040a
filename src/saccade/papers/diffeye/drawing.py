"""Pictures of what eyes did: trajectories and scanpaths over an image, histograms of speeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saccade.core.scanpath import Points, Scanpath
from saccade.metrics.trajectories import speeds

Picture = Float[np.ndarray, "1 h w 3"]
LONGEST = 300.0  # milliseconds of a large disc


def draw_trajectories(axes: Axes, picture: Picture, paths: Sequence[Points], title: str = "") -> None:
    """Lines over the picture, each from its light to its dark end."""
    _ground(axes, picture, title)
    for number, path in enumerate(paths):
        colour = f"C{number % 10}"
        axes.plot(*np.asarray(path)[:, :2].T, color=colour, linewidth=0.9, alpha=0.85)
        axes.plot(*path[0][:2], "o", color="white", markeredgecolor=colour, markersize=4)


def draw_scanpath(axes: Axes, picture: Picture, scanpath: Scanpath, title: str = "", colour: str = "C1") -> None:
    """Numbered discs, larger the longer the eyes rested, joined in order."""
    _ground(axes, picture, title)
    x, y = scanpath.points.T
    axes.plot(x, y, color=colour, linewidth=1)
    axes.scatter(x, y, s=20 + 160 * np.minimum(scanpath.durations / LONGEST, 2), color=colour, alpha=0.7, zorder=2)
    for number, at in enumerate(scanpath.points, 1):
        axes.annotate(str(number), at, color="white", fontsize=6, ha="center", va="center", zorder=3)


def draw_saliency(axes: Axes, picture: Picture, saliency: Float[np.ndarray, "h w"], title: str = "") -> None:
    """The map over the picture."""
    _ground(axes, picture, title)
    axes.imshow(saliency, cmap="inferno", alpha=0.6)


def speed_histogram(axes: Axes, groups: Mapping[str, Sequence[Points]], rate: float = 1.0, bins: int = 30) -> None:
    """Shares of steps by their speed, in pixels a second (a sample, at a rate of 1), on a logarithmic axis."""
    values = {name: np.concatenate([speeds(path, rate) for path in paths]) for name, paths in groups.items()}
    highest = max(float(each.max()) for each in values.values())
    edges = np.geomspace(max(highest, 1.0) / 1000, max(highest, 1.0), bins + 1)
    for name, each in values.items():
        weights = np.full(len(each), 1 / len(each))
        axes.hist(each.clip(edges[0]), edges.tolist(), weights=weights, histtype="step", label=name)
    axes.set(xscale="log", xlabel="speed, pixels a sample" if rate == 1 else "speed, pixels a second", ylabel="share")
    axes.legend(fontsize=7)


def row_of(count: int, height: float = 2.2) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels beside each other."""
    figure = Figure(figsize=(1.33 * height * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _ground(axes: Axes, picture: Picture, title: str) -> None:
    axes.imshow(picture[0])
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()
