"""The masks of both stages, drawn for a picture with two references."""

import torch
from matplotlib.figure import Figure

from saccade.core.layout import Layout, Segment
from saccade.experiments import Figures, Results
from saccade.mechanisms.canvas import Box
from saccade.papers.lamic.groups import Entity, GroupIsolation, Stage

WORDS, PADDING, GRID, REFERENCE = 6, 8, (6, 6), (1, 3, 4)
STAGES: tuple[Stage, ...] = (1, 2)


def tokens() -> Layout:
    """Words of two entities and of a sentence, padding, the picture, two references."""
    shown = (Segment(f"reference{i}", "extra", 12, REFERENCE) for i in (1, 2))
    return Layout((*Layout.joint(text=3 * WORDS + PADDING, grid=(1, *GRID)).segments, *shown))


def mask_of(stage: Stage) -> GroupIsolation:
    """Two halves side by side, a column of the picture nobody's."""
    words = tuple(tuple(range(WORDS * i, WORDS * (i + 1))) for i in range(3))
    places = (Box(x0=0, y0=0, x1=0.5, y1=1), Box(x0=0.5, y0=0, x1=5 / 6, y1=1))
    entities = tuple(
        Entity(words=words[i], region=place, reference=f"reference{i + 1}") for i, place in enumerate(places)
    )
    return GroupIsolation(entities=entities, words=words[:2], interaction=words[2], stage=stage)


def plot_masks(results: Results, figures: Figures) -> str:
    """Rows are queries; tokens sorted by group."""
    layout, figure = tokens(), Figure(figsize=(7.4, 4.0), layout="constrained")
    members = mask_of(2).members(layout)
    order = torch.cat([row.nonzero()[:, 0] for row in members])
    edges = members.sum(1).cumsum(0).tolist()
    names = ("text 1", "text 2", "interaction", "padding", "region 1", "region 2", "rest", "reference 1", "reference 2")
    middles = [(a + b) / 2 for a, b in zip([0, *edges], edges, strict=False)]
    for axes, stage in zip(figure.subplots(1, 2), STAGES, strict=True):
        seen = mask_of(stage).materialize(layout, layout)[0, 0][order][:, order]
        axes.imshow(
            seen.numpy(), cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest", extent=(0, len(order), len(order), 0)
        )
        for edge in edges[:-1]:
            axes.axhline(edge, lw=0.4, color="gray")
            axes.axvline(edge, lw=0.4, color="gray")
        axes.set_title(f"stage {stage}", fontsize=9)
        axes.set_xticks(middles, names, rotation=90, fontsize=7)
        axes.set_yticks(middles, names, fontsize=7)
    return figures.save("masks", figure, "Who sees whom in both stages; rows are queries")
