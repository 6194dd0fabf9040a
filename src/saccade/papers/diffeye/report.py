"""Arms and claims of the small runs, and what the page shows of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from saccade.data.discs import DiscViews
from saccade.experiments import ArmTable, Claim, Column, Figures, Lines, Results, higher
from saccade.experiments.page import Block
from saccade.papers.diffeye.drawing import draw_trajectories, row_of

BOTH, NONE = "positions on both sides", "none"
POINTS, IMAGE, GLOBAL = "of points alone", "of image tokens alone", "one global feature"
DISC_ARMS: Mapping[str, dict[str, Any]] = {
    BOTH: {},
    POINTS: {"cpe_of": "points"},
    IMAGE: {"cpe_of": "image"},
    NONE: {"cpe_of": "none"},
    GLOBAL: {"sees": "global"},
}
PEOPLE, OTHERS = "people", "people over another picture"
OURS, SHUFFLED = "DiffEye", "DiffEye under another picture"
CENTRE, UNIFORM = "walk about the middle", "uniform"

CLAIMS: tuple[Claim, ...] = (
    *(
        higher(f"discs: positions {what} miss more than on both sides", "discs.miss", arm, than=BOTH)
        for arm, what in ((NONE, "on neither side"), (POINTS, "of points alone"), (IMAGE, "of image tokens alone"))
    ),
    higher("discs: one global feature misses more than tokens with positions", "discs.miss", GLOBAL, than=BOTH),
    *(
        higher(f"photographs: {what} is farther from people than DiffEye, by DTW", "osie.dtw", arm, than=OURS)
        for arm, what in ((CENTRE, "a walk about the middle"), (UNIFORM, "uniform noise"))
    ),
    higher("photographs: so is DiffEye itself under another picture", "osie.dtw", SHUFFLED, than=OURS),
    higher("photographs: it is farther from people than people are, by DTW", "osie.dtw", OURS, than=PEOPLE),
    higher("photographs: its saliency correlates more than that under another picture", "osie.cc", OURS, than=SHUFFLED),
    higher("photographs: its saliency correlates more than a walk's", "osie.cc", OURS, than=CENTRE),
    higher("photographs: a walk's speeds are less like people's than DiffEye's", "osie.speeds", CENTRE, than=OURS),
)

disc_table = ArmTable(
    of="discs.arm",
    columns=(
        Column(source="discs.miss", title="miss, pixels of 64", show=".2f", interval=True),
        Column(source="discs.dtw", title="DTW", show=".0f", interval=True),
    ),
)
osie_table = ArmTable(
    of="osie.arm",
    columns=(
        Column(source="osie.dtw", title="DTW", show=".0f"),
        Column(source="osie.dtw_best", title="best", show=".0f"),
        Column(source="osie.frechet", title="Fréchet", show=".0f"),
        Column(source="osie.frechet_best", title="best", show=".0f"),
        Column(source="osie.tde", title="TDE", show=".1f"),
        Column(source="osie.tde_best", title="best", show=".1f"),
        Column(source="osie.cc", title="CC", show=".3f"),
        Column(source="osie.nss", title="NSS", show=".3f"),
        Column(source="osie.speeds", title="speeds, JS", show=".3f"),
    ),
)
speed_lines = Lines(
    source="speeds.share",
    x="log10",
    name="speeds",
    label="share of steps",
    about="Shares of steps by the logarithm of their pixels a sample, of people, DiffEye and walks",
)


def drawn_discs(results: Results, figures: Figures) -> str:
    """Three sampled observers of two pictures, with and without positions."""
    arms, pictures = results.distinct("examples.arm"), results.distinct("examples.picture")
    figure, axes = row_of(len(arms) * len(pictures))
    for panel, (arm, picture) in zip(axes, ((arm, picture) for picture in pictures for arm in arms), strict=True):
        rows = results.rows("examples", arm=arm, picture=picture)
        ground = DiscViews().picture(np.array(rows[0]["places"]))
        draw_trajectories(panel, ground, [np.array(row["path"]) for row in rows], arm)
    return figures.save(
        "discs", figure, "Sampled observers of held-out pictures, with positions on both sides and none"
    )


def sizes(part: str) -> Block:
    """What a part was trained with, in a line."""

    def note(results: Results, figures: Figures) -> str:
        s = results.settings
        return (
            "{steps} steps of {batch} trajectories of {length} samples, width {width}; {sampling} steps of DDIM at a "
            "guidance of {guidance}; ".format(**s[part])
            + f"{s['held']} held-out pictures, {s['observers']} observers."
        )

    return note
