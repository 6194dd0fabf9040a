"""Pictures of FlashBias' page: what a prior makes a token read, and what a bias costs."""

import torch
from matplotlib.figure import Figure

from saccade.core.layout import Layout
from saccade.experiments import Figures, Results
from saccade.papers.flashbias.place_priors import SpatialDistance
from saccade.papers.flashbias.system import factorize

STRENGTHS, SIDE, QUERY = (0.0, 8.0, 32.0, 128.0), 32, (10, 20)


def plot_prior(results: Results, figures: Figures) -> str:
    """What one token of a grid reads, with scores all equal, by strength."""
    layout = Layout.image_only((1, SIDE, SIDE))
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for panel, strength in zip(figure.subplots(1, len(STRENGTHS)), STRENGTHS, strict=True):
        factors = factorize(SpatialDistance(strength=strength), tokens=layout)
        query = factors.phi_q[0, 0, QUERY[0] * SIDE + QUERY[1]]
        weights = torch.softmax(factors.phi_k[0, 0] @ query, dim=0).reshape(SIDE, SIDE)
        panel.imshow(weights.numpy(), cmap="magma", vmin=0)
        panel.set(title=f"strength {strength:g}", xticks=[], yticks=[])
    return figures.save("prior", figure, "What one image token reads under a distance prior, by strength")


def plot_cost(results: Results, figures: Figures) -> str:
    """ALiBi: time as a multiple of attention without a bias, forward and backward, and memory."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for dtype, line in zip(results.distinct("timing.dtype"), ("-", "--"), strict=False):
        for arm, name, colour in (("dense", "dense bias", "C1"), ("factors", "factors", "C2")):
            style = {"color": colour, "linestyle": line, "marker": "o", "label": f"{name}, {dtype}"}
            for panel, part in zip(panels, ("forward", "backward"), strict=False):
                rows = results.rows("timing", prior="alibi", dtype=dtype, part=part)
                panel.plot([r["n"] for r in rows], [r[f"{arm}_ms"] / r["plain_ms"] for r in rows], **style)
            rows = results.rows("timing", prior="alibi", dtype=dtype, part="forward")
            panels[2].plot([r["n"] for r in rows], [r[f"{arm}_bytes"] / 1e6 for r in rows], **style)
    titles = ("forward time, no bias = 1", "backward time, no bias = 1", "memory of a forward, MB")
    lengths = sorted(results.distinct("timing.n"))
    for panel, title in zip(panels, titles, strict=True):
        panel.set_xscale("log", base=2)
        panel.set_xticks(lengths, [str(n) for n in lengths])
        panel.set(title=title, xlabel="tokens")
    panels[2].set_yscale("log")
    for panel in panels[:2]:
        panel.axhline(1, color="grey", linewidth=0.8)
    panels[0].legend(frameon=False, fontsize=8)
    return figures.save("cost", figure, "Time and memory against the number of tokens")
