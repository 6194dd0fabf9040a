"""The page of CLEAR's distillation: its tables, its plot, and what is claimed of it."""

from typing import Any

from saccade.experiments import Claim, Figures, Results, Row, RowTable, Verdicts
from saccade.experiments.claims import Measure
from saccade.metrics.intervals import Interval
from saccade.papers.clear.arms import ADAPTER, TRAINED
from saccade.papers.clear.plots import BLUE, GREY, ORANGE, axes
from saccade.papers.clear.sections import rate, spanned, valued


def of_row(table: str, value: str, arm: str, grid: int) -> Measure:
    """A measure: a value of an arm's row, on the first or second grid."""

    def measure(results: Results) -> Interval:
        (row,) = results.rows(table, arm=arm, grid=results.settings["grids"][grid])
        return valued(row, value, results.settings["pictures"][grid])

    return measure


LOSS_CLAIMS = (
    Claim(text="the adapter brings radius 8 nearer to the teacher", measure=of_row("losses", "gained", "disc r=8", 1)),
    Claim(text="and radius 4, at which it was not distilled", measure=of_row("losses", "gained", "disc r=4", 1)),
)
ARM_CLAIMS = (
    Claim(
        text="a short distillation brings radius 3 nearer to the teacher",
        measure=of_row("arms", "gained", "disc r=3", 0),
    ),
    *(
        Claim(text=f"after the same distillation {arm} stays behind it", measure=of_row("arms", "behind", arm, 0))
        for arm in ("windows 5 x 5", "pooled 4 x 4 only", "linear (elu + 1)")
    ),
)
CLAIMS = LOSS_CLAIMS + ARM_CLAIMS


def plot_radii(results: Results, figures: Figures) -> str:
    """Flow loss over the radius before and after, one panel per grid, with the dense model's."""
    grids = results.distinct("losses.grid")
    figure, panels = axes(len(grids))
    for panel, grid in zip(panels, grids, strict=True):
        rows = results.rows("losses", grid=grid, scaled=False)
        radii = [row["radius"] for row in rows]
        for key, label, tint in (("flow_before", "zero-shot", ORANGE), ("flow_after", "distilled", BLUE)):
            panel.plot(radii, [row[key] for row in rows], marker="o", ms=4, color=tint, label=label)
        panel.axhline(rows[0]["flow_dense"], color=GREY, lw=1, label="dense")
        panel.set(xlabel="radius, in tokens", title=f"{grid} x {grid} image tokens")
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("flow loss")
    return figures.save("radii", figure, "Flow loss by radius, before and after")


def losses_table(results: Results, figures: Figures) -> str:
    """Both grids."""
    (weights,) = results.distinct("losses.weights")
    about = (
        f"Model `{results.settings['model']}`, weights {weights}, adapter `{ADAPTER}`; {_pictures(results)}, times "
        f"spread evenly, the same noise for all; proportional scale for {TRAINED} trained keys. Brackets: 95 % over "
        "pictures."
    )
    return f"{about}\n\n{RowTable(table='losses', cells=_cells('more than dense', 'extra'))(results, figures)}"


def samples_table(results: Results, figures: Figures) -> str:
    """Both grids."""
    said, (small, large) = results.settings, results.settings["captions"]
    cells = {
        "image tokens": "{grid} x {grid}",
        "attention": "{arm}",
        "pairs": "{pairs:.3f}",
        "PSNR to dense": lambda row: "same" if row["psnr"] is None else f"{row['psnr']:.1f} dB",
        "captions kept": lambda row: spanned(row, "kept", 2),
        "colour": lambda row: rate(row["colour"]),
        "shape": lambda row: rate(row["shape"]),
    }
    about = (
        f"{small} and {large} held-out captions of one object, {said['sampling']} steps, the same noise for all; "
        "judged by the scene parser."
    )
    return f"{about}\n\n{RowTable(table='samples', cells=cells)(results, figures)}"


def arms_table(results: Results, figures: Figures) -> str:
    """Each arm's distance after as many steps."""
    said = results.settings
    grid = said["grids"][0]
    about = (
        f"Each distilled for {said['steps']} steps of {said['batch']} pictures on {grid} x {grid} image tokens; "
        f"{_pictures(results)}. Brackets: 95 % over pictures."
    )
    return f"{about}\n\n{RowTable(table='arms', cells=_cells('behind the first', 'behind'))(results, figures)}"


def _cells(title: str, value: str) -> dict[str, Any]:
    def bracketed(row: Row) -> str:
        return spanned(row, value, 4)

    return {
        "image tokens": "{grid} x {grid}",
        "attention": "{arm}",
        "pairs": "{pairs:.3f}",
        "teacher MSE before": "{before:.4f}",
        "after": "{after:.4f}",
        "flow loss before": "{flow_before:.4f}",
        "flow loss after": "{flow_after:.4f}",
        "dense": "{flow_dense:.4f}",
        title: bracketed,
    }


def _pictures(results: Results) -> str:
    small, large = results.settings["pictures"]
    return f"{small} and {large} held-out pictures"


SECTIONS = {
    "losses": (plot_radii, losses_table, Verdicts(LOSS_CLAIMS, differences=True)),
    "samples": (samples_table,),
    "arms": (arms_table, Verdicts(ARM_CLAIMS, differences=True)),
}
