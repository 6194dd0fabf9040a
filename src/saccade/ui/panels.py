"""Pictures with captions side by side on one sheet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np

PIXELS = 320  # of a panel's side
WRAP = 42  # characters of a caption's line
Picture = np.ndarray  # (t h w 3) in [0, 1]


def draw_panels(rows: Sequence[Mapping[str, Picture]], path: Path) -> Path:
    """Write a picture: each row its pictures, of videos the first frame, under their captions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across, dots = max(map(len, rows)), 100
    side = PIXELS / dots
    titles = 0.2 + 0.15 * max(fill(caption, WRAP).count("\n") + 1 for row in rows for caption in row)
    figure = Figure(figsize=(side * across, (side + titles) * len(rows)), dpi=dots, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), across, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for line, row in zip(axes, rows, strict=True):
        for ax, (caption, picture) in zip(line, row.items(), strict=False):
            ax.imshow(picture[0], interpolation="nearest" if picture.shape[1] < PIXELS else None)
            ax.set_title(fill(caption, WRAP), fontsize=8)
    figure.savefig(path)
    return path.resolve()
