"""An exemplar with the masks of its subjects on the latents, and the similarity of subspaces by layer."""

import numpy as np
import torch
from matplotlib.figure import Figure

from saccade.experiments import Figures, Results
from saccade.papers.dreamrelation.bounces import FRAMES, SIDE, exemplars
from saccade.papers.dreamrelation.masks import latent_masks

STRIDES = (2, 4)  # of the bundled video model
PAIRS = {"q-k": "o-", "q-v": "s--", "k-v": "^:"}


def plot_masks(results: Results, figures: Figures) -> str:
    """One video, and below each latent frame the masks of its subjects."""
    drawn = exemplars(1, seed=0)[0]
    video, masks = drawn.video(), latent_masks(drawn.masks(), strides=STRIDES)
    figure = Figure(figsize=(7.2, 2.0), layout="constrained")
    grid = figure.add_gridspec(2, FRAMES)
    for i, frame in enumerate(video):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(frame)
        axes.set_axis_off()
    for j, both in enumerate(masks):
        axes = figure.add_subplot(grid[1, STRIDES[0] * j])
        axes.imshow(_coloured(both), vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"latent {j}", fontsize=7)
        axes.set_axis_off()
    return figures.save(
        "masks", figure, f"Frames of {SIDE} pixels, and where the two subjects are on the latents they become"
    )


def plot_similarity(results: Results, figures: Figures) -> str:
    """Lines for the pairs, by layer, a panel for each model."""
    models = [str(name) for name in results.distinct("similarity.model")]
    figure = Figure(figsize=(3.4 * len(models), 2.8), layout="constrained")
    for axes, model in zip(np.atleast_1d(figure.subplots(1, len(models), sharey=True)), models, strict=True):
        for pair, style in PAIRS.items():
            rows = results.rows("similarity", model=model, arm=pair)
            axes.plot(
                [r["layer"] for r in rows], [r["similarity"] for r in rows], style, label=pair.upper(), ms=3, lw=1
            )
        chance = results.rows("similarity", model=model)[0]["random"]
        axes.axhline(chance, lw=0.8, color="gray", label="random")
        axes.set_title(model, fontsize=9)
        axes.set_xlabel("layer")
        axes.set_ylim(0, 1)
    figure.axes[0].set_ylabel("subspace similarity")
    figure.axes[0].legend(fontsize=7)
    return figures.save("similarity", figure, "How alike the leading subspaces of the projections are, by layer")


def _coloured(both: torch.Tensor) -> np.ndarray:
    """Both masks of a latent frame as red and blue on white."""
    one, two = (both[i, ..., None].numpy() for i in range(2))
    ink = one * np.array([0.16, 0.92, 0.82]) + two * np.array([0.84, 0.66, 0.08])
    return np.clip(1 - ink, 0, 1)
