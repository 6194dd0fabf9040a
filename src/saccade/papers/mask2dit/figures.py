"""The mask between three scenes, drawn."""

import torch
from matplotlib.figure import Figure

from saccade.core.layout import Layout
from saccade.experiments import Figures, Results
from saccade.papers.mask2dit.scene_mask import Kind, SceneMask, Scenes

SCENES, TEXT, GRID = 3, 3, (2, 2, 2)
TITLES: dict[Kind, str] = {"dual": "dual", "block_diagonal": "block-diagonal"}


def plot_masks(results: Results, figures: Figures) -> str:
    """Rows are queries."""
    layout = Layout.joint(text=SCENES * TEXT, grid=(SCENES * GRID[0], *GRID[1:]))
    clip = GRID[0] * GRID[1] * GRID[2]
    edges = [*range(0, SCENES * TEXT, TEXT), *range(SCENES * TEXT, layout.n + 1, clip)]
    middles = [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)]
    names = [f"{kind} {i + 1}" for kind in ("text", "clip") for i in range(SCENES)]
    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    for axes, (kind, title) in zip(figure.subplots(1, 2), TITLES.items(), strict=True):
        mask = SceneMask(scenes=Scenes(text_tokens=TEXT), kind=kind)
        seen = mask.materialize(layout, layout)[0, 0].to(torch.float32)
        extent = (0, layout.n, layout.n, 0)
        axes.imshow(seen.numpy(), cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest", extent=extent)
        for edge in edges[1:-1]:
            axes.axhline(edge, lw=0.4, color="gray")
            axes.axvline(edge, lw=0.4, color="gray")
        axes.set_title(title, fontsize=9)
        axes.set_xticks(middles, names, rotation=90, fontsize=7)
        axes.set_yticks(middles, names, fontsize=7)
    return figures.save("masks", figure, "Who sees whom between three scenes; rows are queries")
