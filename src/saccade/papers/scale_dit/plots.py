"""Pictures of Scale-DiT's page: who sees whom, and what each token order makes of it."""

from matplotlib.figure import Figure

from saccade.experiments import Figures, Results
from saccade.papers.scale_dit.anchor_layout import anchored
from saccade.papers.scale_dit.system import ScaleDiT
from saccade.papers.scale_dit.token_orders import ORDERS, ordered

TINTS = {"raster": "#8a8f98", "window": "#d9822b", "hilbert": "#2f6fb0"}


def plot_mask(results: Results, figures: Figures, *, text: int = 16, high: int = 16, low: int = 4) -> str:
    """The mask on a toy grid in the three orders, rows being queries."""
    layout = anchored(text=text, high=(high, high), low=(low, low))
    seen = ScaleDiT(window=4).mask().materialize(layout, layout)[0, 0]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for panel, order in zip(figure.subplots(1, len(ORDERS)), reversed(ORDERS), strict=True):
        at = ordered(order, layout, 4)
        panel.imshow(seen[at][:, at].numpy(), cmap="Blues", interpolation="none", rasterized=True)
        panel.set(title=order, xticks=[], yticks=[])
    return figures.save("mask", figure, "Who sees whom: text, picture and its copy, in three token orders")


def plot_densities(results: Results, figures: Figures) -> str:
    """Share of blocks over the side of the picture."""
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    panel, rows = figure.subplots(), results.rows("densities")
    sides = [row["side"] for row in rows]
    for order in reversed(ORDERS):
        panel.plot(sides, [row[order] for row in rows], marker="o", ms=4, color=TINTS[order], label=f"blocks, {order}")
    panel.plot(sides, [row["pairs"] for row in rows], marker=".", ls="--", color="black", label="pairs")
    panel.set(xlabel="side, pixels", ylabel="share of dense attention", xscale="log", yscale="log")
    panel.set_xticks(sides, [str(side) for side in sides])
    panel.minorticks_off()
    panel.legend(frameon=False, fontsize=8)
    return figures.save("densities", figure, "Blocks a kernel computes, by token order")
