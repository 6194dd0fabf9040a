"""Pictures of a row over depth: how the mass of the last token moves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from saccade.analysis.rollout import Share
from saccade.papers.position_bias.front import front_row
from saccade.papers.position_bias.masks import Graph
from saccade.papers.position_bias.theory import peak_distance

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_depths(
    kinds: Mapping[str, tuple[Graph, float]], *, tokens: int, layers: Sequence[int], residual: Share | None = None
) -> "Figure":
    """A heat map for each mask and slope: rows are depths, columns the tokens; a line where the bulk should peak.

    Each depth is scaled to its largest mass.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3 * len(kinds) + 0.6, 2.8), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, (name, (graph, slope)) in zip(panels, kinds.items(), strict=True):
        rows = torch.stack([front_row(tokens, n, graph, slope=slope, residual=residual) for n in layers])
        axes.imshow((rows / rows.amax(1, keepdim=True)).numpy(), aspect="auto", cmap="viridis", interpolation="nearest")
        if slope and residual is None:
            places = [tokens - 1 - peak_distance(n, slope) for n in layers]
            seen = [(at, y) for y, at in enumerate(places) if at >= 0]
            axes.plot(*zip(*seen, strict=True), color="white", linewidth=1)
        axes.set(title=name, xlabel="token")
        axes.set_yticks(range(len(layers)), [str(n) for n in layers])
    panels[0].set_ylabel("layers")
    return figure
