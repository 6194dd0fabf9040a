"""How well every head of a model served an objective, as a grid of layers and heads."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from saccade.runs.head_search import HeadSearch


def plot_heads(found: HeadSearch, number: int = 0, *, baseline: float | None = None, title: str = "") -> Figure:
    """Scores of round `number` by layer and head, the heads it selected framed, those of earlier rounds blank.

    baseline  the objective without guidance: then colours show what is above and below it
    Raises ValueError for a round there was not.
    """
    grid = score_grid(found, number) - (baseline or 0.0)
    layers, heads = grid.shape
    figure = Figure(figsize=(3.4 + 0.42 * layers, 2.4 + 0.36 * heads), layout="constrained")
    axes = figure.subplots()
    limit = float(np.nanmax(np.abs(grid))) or 1.0
    span = (None, None) if baseline is None else (-limit, limit)
    shown = axes.imshow(
        grid.T, origin="lower", aspect="auto", vmin=span[0], vmax=span[1],
        cmap="viridis" if baseline is None else "RdBu",
    )  # fmt: skip
    size = len(found.chosen) // len(found.scores)
    for layer, head in found.chosen[number * size : (number + 1) * size]:
        axes.add_patch(Rectangle((layer - 0.5, head - 0.5), 1, 1, fill=False, linewidth=2.2, edgecolor="black"))
    axes.set(xlabel="layer", ylabel="head", title=title, xticks=range(layers), yticks=range(heads))
    figure.colorbar(shown, ax=axes, label="objective" + ("" if baseline is None else ", against no guidance"))
    return figure


def score_grid(found: HeadSearch, number: int = 0) -> Float[np.ndarray, "layers heads"]:
    """Scores of a round, nan for heads that were selected before.

    Raises ValueError for a round there was not.
    """
    if not 0 <= number < len(found.scores):
        raise ValueError(f"number={number} is no round; there were {len(found.scores)}, counted from 0")
    every = found.scores[0]
    grid = np.full((1 + max(layer for layer, _ in every), 1 + max(head for _, head in every)), np.nan)
    for (layer, head), score in found.scores[number].items():
        grid[layer, head] = score
    return grid
