"""Pictures of SiamLayout's page, drawn from results: boxes asked for and things read, and shares of steps."""

from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from saccade.data.scenes import COLOURS
from saccade.experiments import Figures, Results
from saccade.papers.siamlayout.small_run import ARMS, BASE

STRANGE = (0.5, 0.5, 0.5)  # of what has no known colour


def plot_boxes(results: Results, figures: Figures) -> str:
    """A row for each picture, a column for each arm."""
    rows = [row for row in results.rows("arms", arm=BASE) if row.get("asked")]
    arms = (BASE, *ARMS)
    figure = Figure(figsize=(1.7 * len(arms), 1.75 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(arms), squeeze=False)
    for line, first in zip(panels, rows, strict=True):
        for panel, arm in zip(line, arms, strict=True):
            (row,) = (r for r in results.rows("arms", arm=arm) if r["picture"] == first["picture"])
            _draw(panel, row)
            if first is rows[0]:
                panel.set_title(arm, fontsize=9)
    return figures.save("boxes", figure, "Boxes asked for (dashed) and things that were read (filled)")


def _draw(panel: Any, row: dict[str, Any]) -> None:
    for kind, dashed in (("seen", False), ("asked", True)):
        for thing in row[kind]:
            x0, y0, x1, y1 = thing["box"]
            tone = tuple(c / 255 for c in COLOURS[thing["colour"]]) if thing["colour"] in COLOURS else STRANGE
            look = {"fill": False, "ls": "--", "lw": 1.6} if dashed else {"alpha": 0.35, "lw": 0}
            panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, color=tone, **look))
    panel.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect="equal")


def plot_fractions(results: Results, figures: Figures) -> str:
    """Overlap over the share of the steps in which the layout acts."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    panel = figure.subplots()
    shares = sorted({row["until"] for row in results.rows("fractions")})
    for column, name in (("iou", "overlap with the box"), ("placed", "centre in the box"), ("there", "thing there")):
        none = mean(results.values(f"arms.{column}", arm=BASE))
        values = [mean(row[column] for row in results.rows("fractions") if row["until"] == share) for share in shares]
        panel.plot([0, *shares], [none, *values], marker="o", ms=4, label=name)
    panel.set(xlabel="share of the steps with the layout", ylabel="mean of pictures", ylim=(0, 1.02))
    panel.legend(frameon=False, fontsize=8)
    return figures.save("fractions", figure, "What a layout does by the share of the steps in which it acts")
