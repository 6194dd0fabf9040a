"""Heads by site, as shade: one tile a head, a panel for each figure."""

import numpy as np
from jaxtyping import Float

from saccade.analysis.attention_record import AttentionRecord
from saccade.ui.plots import themed_axes

PANELS = {
    "spread": "entropy, of its largest",
    "top": "share of the key that draws most",
    "text": "share of the text",
    "distance": "distance, of equal shares'",
    "own": "share of itself",
}
TICKS = 8


def plot_heads(record: AttentionRecord, name: str) -> str | None:
    """One figure of all heads as SVG, sites across; None where no head has it."""
    table = head_table(record, name)
    if table.size == 0 or np.isnan(table).all():
        return None
    with themed_axes(6.4, 2.6) as ((ax,), done):
        ax.grid(False)
        shown = ax.imshow(table.T, aspect="auto", cmap="viridis", vmin=0, vmax=float(np.nanmax(table)))
        ax.figure.colorbar(shown, ax=ax, fraction=0.03, pad=0.01)
        ax.set(xlabel="site", ylabel="head")
        ax.set_xticks(_ticks(len(table)))
        ax.set_yticks(_ticks(table.shape[1]))
        return done()


def head_table(record: AttentionRecord, name: str) -> Float[np.ndarray, "sites heads"]:
    """One figure by site and head; NaN where a site has fewer heads, or not this figure."""
    found = [site.figures() for site in record.sites]
    most = max((len(figures[name]) for figures in found if figures), default=0)
    table = np.full((len(found), most), np.nan)
    for row, figures in zip(table, found, strict=True):
        if figures:
            row[: len(figures[name])] = figures[name]
    return table


def _ticks(n: int) -> range:
    return range(0, n, max(n // TICKS, 1))
