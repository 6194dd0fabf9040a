"""One picture with its maps and masks, as the experiment kept them."""

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from saccade.data import scenes
from saccade.experiments import Figures, Results
from saccade.papers.attencraft.masks import make_masks
from saccade.papers.attencraft.small_run import BOTH, RAW, true_masks, two_things

CLASSES = ListedColormap(["#d8d8d8", "#d7142d", "#2855eb", "#202020"])  # nobody's, the two things, background


def plot_maps(results: Results, figures: Figures) -> str:
    """The picture, both kinds of map of each class, the masks, and the true ones."""
    scene, side = two_things(0), int(results.settings["side"])
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    grid = figure.subplots(2, 5)
    kept = {name: torch.tensor(_values(results, name)) for name in (RAW, BOTH)}
    masks, truth = make_masks(kept[BOTH]), true_masks(scene, side, kept[BOTH].shape[-1])
    names = (*(f"{thing.colour} {thing.shape}" for thing in scene.things), "background")
    for row, (name, maps) in enumerate(kept.items()):
        for column, (label, heat) in enumerate(zip(names, maps, strict=True), 1):
            grid[row, column].imshow(heat.numpy(), cmap="magma", vmin=0, vmax=1, interpolation="nearest")
            grid[row, column].set_title(f"{name}: {label}", fontsize=8)
    grid[0, 0].imshow(scenes.render(scene, side))
    grid[0, 0].set_title("picture", fontsize=8)
    for axes, title, shown in (
        (grid[0, 4], f"masks of {BOTH}", _labels(masks)),
        (grid[1, 4], "true masks", _labels(torch.cat((truth, ~truth.any(0, keepdim=True))))),
    ):
        axes.imshow(shown, cmap=CLASSES, vmin=0, vmax=3, interpolation="nearest")
        axes.set_title(title, fontsize=8)
    for axes in grid.flat:
        axes.axis("off")
    return figures.save("maps", figure, "A scene, the maps of its words, and the masks they make")


def _values(results: Results, name: str) -> list[list[list[float]]]:
    return [row["values"] for row in results.rows("picture", map=name)]


def _labels(masks: torch.Tensor) -> np.ndarray:
    """0 where nobody's, else the number of the class, from 1."""
    number = torch.arange(1, len(masks) + 1)[:, None, None]
    return (masks * number).sum(0).numpy()
