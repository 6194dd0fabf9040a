"""A picture of a probe: how close each layer stays to the reference when its keys are moved."""

from itertools import groupby

import numpy as np
from matplotlib.figure import Figure

from saccade.analysis.layers import LayerScores, LayerSets

COLOURS = {"position": "#c1443c", "content": "#2f6db3", "": "#b9b9b9"}
MARKS = "osD^vP*X"


def plot_layers(scores: LayerScores, sets: LayerSets | None = None) -> Figure:
    """A bar for each layer, a mark for each move, the two sets in colours of their own, stacks of blocks parted."""
    sets, psnr, n = sets or scores.sets(), scores.psnr, len(scores.sites)
    figure = Figure(figsize=(max(4.8, 0.16 * n + 1.6), 3.4), layout="constrained")
    axes = figure.subplots()
    for name, colour in COLOURS.items():
        chosen = [i for i, site in enumerate(scores.sites) if _hang(site, sets) == name]
        label = f"hangs on {name}" if name else "neither"
        axes.bar(chosen, scores.closeness[chosen], color=colour, label=label, width=0.8)
    for move, mark, column in zip(scores.moves, MARKS * n, np.moveaxis(psnr.mean(2), 1, 0), strict=False):
        axes.plot(range(n), column, mark, color="black", markersize=3, alpha=0.6, label=move)
    for stack in _starts(scores.sites)[1:]:
        axes.axvline(stack - 0.5, color="black", linewidth=0.6, linestyle=":")
    ticks = range(0, n, max(1, n // 12))
    axes.set(xlabel="layer", ylabel="PSNR to the reference, dB", xticks=list(ticks))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _hang(site: str, sets: LayerSets) -> str:
    return "position" if site in sets.position else "content" if site in sets.content else ""


def _starts(sites: tuple[str, ...]) -> list[int]:
    """Numbers of the layers with which a stack of blocks begins."""
    runs = groupby(range(len(sites)), key=lambda i: sites[i].partition(".")[0])
    return [next(run) for _, run in runs]
