"""CLEAR's page: its tables, and what is claimed of it."""

from math import nan
from typing import Any

from saccade.experiments import Claim, Figures, Results, Row, RowTable, Verdicts
from saccade.experiments.claims import Measure
from saccade.metrics.intervals import Interval
from saccade.papers.clear import costs
from saccade.papers.clear.arms import TEXT, TRAINED
from saccade.papers.clear.plots import plot_blocks, plot_losses, plot_mask, plot_times


def extra_loss(arm: str, grid: int) -> Measure:
    """A measure: how much more than the dense model's an arm's loss is on the first or second grid."""

    def measure(results: Results) -> Interval:
        (row,) = results.rows("losses", arm=arm, grid=results.settings["grids"][grid])
        return valued(row, "extra", results.settings["pictures"][grid])

    return measure


def less(measure: Measure) -> Measure:
    """The measure with its sign turned round."""

    def turned(results: Results) -> Interval:
        found = measure(results)
        return Interval(low=-found.high, mid=-found.mid, high=-found.low, n=found.n)

    return turned


CLAIMS = (
    Claim(text="without distillation a disc of radius 8 costs loss", measure=extra_loss("disc r=8", 0)),
    Claim(
        text="above the resolution of training the proportional scale lowers dense attention's loss",
        measure=less(extra_loss("dense proportional", 1)),
    ),
)


def losses_by_grid(results: Results, figures: Figures) -> str:
    """A table for each grid."""
    cells = {
        "attention": "{arm}",
        "pairs": "{pairs:.3f}",
        "flow loss": "{flow_loss:.4f}",
        "more than dense": lambda row: spanned(row, "extra", 4),
        "teacher MSE": "{teacher_mse:.4f}",
        "relative": "{relative:.4f}",
    }
    about = (
        "{grid} x {grid} image tokens, {pictures} held-out pictures, times spread evenly, the same noise for all; "
        "weights {weights}. Pairs are a share of dense attention's. Brackets: 95 % over pictures."
    )
    return by_grid(results, figures, "losses", about, cells)


def samples_by_grid(results: Results, figures: Figures) -> str:
    """A table for each grid."""
    cells = {
        "attention": "{arm}",
        "pairs": "{pairs:.3f}",
        "PSNR to dense": lambda row: "same" if row["psnr"] is None else f"{row['psnr']:.1f} dB",
        "SSIM": "{ssim:.3f}",
        "captions kept": lambda row: spanned(row, "kept", 2),
        "colour": lambda row: rate(row["colour"]),
        "shape": lambda row: rate(row["shape"]),
    }
    about = (
        "{grid} x {grid} image tokens, {captions} held-out captions of one object, {steps} steps, the same noise for "
        "all; judged by the scene parser; weights {weights}."
    )
    return by_grid(results, figures, "samples", about, cells)


def by_grid(results: Results, figures: Figures, table: str, about: str, cells: dict[str, Any]) -> str:
    """For each grid what was measured on it, and its rows."""
    said, found = results.settings, []
    for grid, pictures, captions in zip(said["grids"], said["pictures"], said["captions"], strict=True):
        (weights,) = results.distinct(f"{table}.weights", grid=grid)
        text = about.format(grid=grid, pictures=pictures, captions=captions, steps=said["steps"], weights=weights)
        found += [text, RowTable(table=table, cells=cells, where={"grid": grid})(results, figures)]
    return "\n\n".join(found)


def times_table(results: Results, figures: Figures) -> str:
    """On the clock and of the processor."""
    cells = {
        "image tokens": "{image_tokens:,}",
        "kernel": "{kernel}",
        "pairs": "{share:.4f}",
        "disc ms": "{disc_ms:.1f}",
        "dense ms": "{dense_ms:.1f}",
        "disc, processor ms": "{disc_cpu_ms:.1f}",
        "dense, processor ms": "{dense_cpu_ms:.1f}",
        "less work": lambda row: f"{row['dense_cpu_ms'] / row['disc_cpu_ms']:.2f}x",
    }
    return (
        f"One attention of {costs.HEADS} heads of {costs.CHANNELS} channels, radius {costs.RADIUS}, {costs.TEXT} text "
        f"tokens, float32, best of {results.settings['repeats']}, disc and dense in turn. Processor time is summed "
        "over threads, and others on the machine do not lengthen it.\n\n"
        f"{RowTable(table='times', cells=cells)(results, figures)}"
    )


def setting(results: Results, figures: Figures) -> str:
    """Which model the losses and samples are of."""
    return (
        f"Model `{results.settings['model']}`, captions padded to {TEXT} tokens, proportional scale for {TRAINED} "
        "trained keys."
    )


def touched_about(results: Results, figures: Figures) -> str:
    """Of what the shares are."""
    return "Share of 128 x 128 blocks a kernel must touch on FLUX.1's tokens, and the share of pairs that is needed."


def valued(row: Row, name: str, n: int) -> Interval:
    """A value of a row with its interval, where there is one, over n pictures."""
    low, high = (nan if row[key] is None else row[key] for key in (f"{name}_low", f"{name}_high"))
    return Interval(low=low, mid=row[name], high=high, n=n)


def spanned(row: Row, name: str, digits: int) -> str:
    """A value with its interval, where there is one."""
    mid, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{mid:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def rate(value: float | None) -> str:
    """Empty where no caption promised any."""
    return "" if value is None else f"{value:.2f}"


TOUCHED = RowTable(
    table="touched",
    cells={
        "pixels": "{side} x {side}",
        "radius": "{radius}",
        "pairs": "{pairs:.3f}",
        "blocks, raster": "{raster:.3f}",
        "blocks, tiles": "{tiles:.3f}",
    },
)
COUNTS = RowTable(
    table="counts",
    cells={
        "pixels": "{side} x {side}",
        "attention": "{variant}",
        "pairs": "{pairs:,}",
        "GFLOP": lambda row: f"{costs.gflop(row['pairs']):,.2f}",
        "share": lambda row: f"{100 * row['pairs'] / costs.flux(row['side']).n ** 2:.3f} %",
    },
)
SECTIONS = {
    "losses": (setting, plot_losses, losses_by_grid, Verdicts(CLAIMS, differences=True)),
    "samples": (samples_by_grid,),
    "counts": (COUNTS,),
    "touched": (plot_blocks, touched_about, TOUCHED),
    "times": (plot_times, times_table),
    "mask": (plot_mask,),
}
