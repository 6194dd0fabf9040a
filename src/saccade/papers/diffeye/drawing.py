"""Pictures of what eyes did: trajectories and scanpaths over an image, histograms of speeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from saccade.core.scanpath import Points
from saccade.metrics.fidelity import Picture
from saccade.metrics.trajectories import speeds
from saccade.ui.scanpaths import draw_picture
from saccade.ui.scanpaths import draw_saliency as draw_saliency
from saccade.ui.scanpaths import draw_scanpath as draw_scanpath
from saccade.ui.scanpaths import row_of as row_of


def draw_trajectories(axes: Axes, picture: Picture, paths: Sequence[Points], title: str = "") -> None:
    """Lines over the picture, a white dot where each begins."""
    draw_picture(axes, picture, title)
    for number, path in enumerate(paths):
        colour = f"C{number % 10}"
        axes.plot(*np.asarray(path)[:, :2].T, color=colour, linewidth=0.9, alpha=0.85)
        axes.plot(*path[0][:2], "o", color="white", markeredgecolor=colour, markersize=4)


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
