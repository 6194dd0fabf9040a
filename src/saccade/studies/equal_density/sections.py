"""The page: a table of all arms, and fidelity against speed."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from saccade.experiments import Figures, Results, Row
from saccade.ui.markdown import markdown_table

HEAD = ("attention", "density", "PSNR to dense, dB", "SSIM", "captions kept", "attention, times faster",
        "pictures, times faster", "efficiency")  # fmt: skip

Value = Mapping[str, float | None] | None


def table(results: Results, figures: Figures) -> str:
    """Dense attention, then target by target from the nearest pictures to the farthest."""
    about = results.settings
    text = (
        f"{about['side']} pixels, {about['tokens']:,} tokens, {about['captions']} held-out captions of one object, "
        f"{about['steps']} steps, all arms in turn. Intervals hold 95 %."
    )
    rows = [row for target in results.distinct("arms.target") for row in ordered(results, target)]
    return f"{text}\n\n{markdown_table(HEAD, map(cells, rows))}"


def ordered(results: Results, target: float) -> list[Row]:
    """The arms of a target, from the nearest to dense attention to the farthest."""
    return sorted(results.rows("arms", target=target), key=lambda row: -(row["psnr"] or {"mid": 0})["mid"])


def cells(row: Row) -> tuple[str, ...]:
    """One arm's."""
    attention, total = row["attention"]["speedup"], row["total"]["speedup"]
    return (
        row["label"], f"{row['density']:.2f}", shown(row["psnr"], 1), shown(row["ssim"], 3), shown(row["accuracy"], 2),
        shown(attention, 2), shown(total, 2), f"{attention['mid'] * row['density']:.2f}",
    )  # fmt: skip


def shown(found: Value, digits: int) -> str:
    """A value with its interval, where it has one."""
    if found is None:
        return ""
    low, mid, high = (None if found[name] is None else f"{found[name]:.{digits}f}" for name in ("low", "mid", "high"))
    return f"{mid}" if low is None else f"{mid} [{low}, {high}]"


def plot(results: Results, figures: Figures) -> str:
    """A mark for each arm, a panel for each target."""
    targets = [target for target in results.distinct("arms.target") if target]
    figure = Figure(figsize=(4.6 * len(targets), 4.2), layout="constrained")
    for ax, target in zip(figure.subplots(1, len(targets), sharey=True, squeeze=False)[0], targets, strict=True):
        for row in results.rows("arms", target=target):
            place = row["attention"]["speedup"]["mid"], row["psnr"]["mid"]
            ax.plot(*place, "o", ms=7)
            ax.annotate(row["label"], place, xytext=(6, 4), textcoords="offset points", size=8)
        ax.axvline(1, color="0.6", lw=1)
        ax.set(title=f"density {target:g}", xlabel="attention, times faster than dense")
        ax.margins(0.25, 0.12)
    figure.axes[0].set_ylabel("PSNR to dense, dB")
    return figures.save("plot", figure, "Fidelity against speed of attention, by system, at equal density")
