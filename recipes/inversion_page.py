"""The page of `recipes/inversion.py`: tables and a plot from its figures, nothing typed by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from saccade.cli.clear_page import BLUE, ORANGE, STYLE
from saccade.ui.markdown import markdown_table

COLOUR = {"UniInv": BLUE, "Euler": ORANGE}
Row = dict[str, Any]


def write_page(figures: dict[str, Any], page: Path) -> None:
    """The page, and beside it the plot."""
    page.parent.mkdir(parents=True, exist_ok=True)
    plot = page.with_name(f"{page.stem}-error.svg")
    draw(figures["reconstruction"], plot)
    setting, machine = figures["setting"], figures["machine"]
    parts = (
        "# Inversion and edits of rendered pictures, measured",
        "Made by `recipes/inversion.py`; the same figures are in "
        f"[{page.stem}.json]({page.stem}.json). How to edit: [Editing](../editing.md).",
        f"Model `scenes-flux`, {setting['scenes']} scenes of two things at {setting['side']} pixels, "
        f"{setting['wall_s']:.0f} s on {machine['device']}; torch {machine['torch']}.",
        "## There and back",
        f"![Error by steps]({plot.name})",
        "Mean squared error of pixels in [0, 1] between a picture through the autoencoder and the same inverted and "
        "drawn again. The order is the slope of its root over the steps. Rendered pictures the model never drew.",
        _errors(figures["reconstruction"]),
        "## Edits",
        f"The first thing of each rendered scene gets another colour, {setting['edit_steps']} steps, UniInv. Kept: the "
        "scene parser finds every promise of the target's caption in the edit; then the share by kind. Outside: PSNR "
        "to the source outside the true outline, autoencoder included. IoU: of the edited region with the outline.",
        _edits(figures["edits"]),
    )
    page.write_text("\n\n".join(parts) + "\n")


def draw(rows: list[Row], file: Path) -> None:
    """Root mean squared error over steps, both logarithmic."""
    kinds = list(dict.fromkeys(row["pictures"] for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(kinds), 3), layout="constrained")
        FigureCanvasSVG(figure)
        for ax, kind in zip(figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0], kinds, strict=True):
            for method, found in _by_method(rows, kind).items():
                label = f"{method}, order {order(found):.2f}"
                ax.loglog(*_curve(found), marker="o", ms=4, color=COLOUR[method], label=label)
            ax.set(xlabel="steps", title=kind)
            ax.legend(frameon=False, fontsize=8)
        figure.axes[0].set_ylabel("RMSE of pixels")
        figure.savefig(file, format="svg", metadata={"Date": None})


def order(rows: list[Row]) -> float:
    """Minus the slope of log error over log steps."""
    return -float(np.polyfit(*map(np.log, _curve(rows)), 1)[0])


def _curve(rows: list[Row]) -> tuple[list[int], list[float]]:
    return [row["steps"] for row in rows], [float(np.sqrt(np.mean(row["mse"]))) for row in rows]


def _by_method(rows: list[Row], kind: str) -> dict[str, list[Row]]:
    return {method: [r for r in rows if (r["pictures"], r["method"]) == (kind, method)] for method in COLOUR}


def _errors(rows: list[Row]) -> str:
    steps = list(dict.fromkeys(row["steps"] for row in rows))
    lines = [
        [kind, method, *(f"{np.mean(row['mse']):.2e}" for row in found), f"{order(found):.2f}"]
        for kind in dict.fromkeys(row["pictures"] for row in rows)
        for method, found in _by_method(rows, kind).items()
    ]
    return markdown_table(["pictures", "method", *(f"{n} steps" for n in steps), "order"], lines)


def _edits(rows: list[Row]) -> str:
    columns: dict[str, Callable[[Row], str]] = {
        "edit": lambda r: r["arm"],
        "kept": lambda r: f"{r['all']['mid']:.2f} [{r['all']['low']:.2f}, {r['all']['high']:.2f}]",
        **{kind: lambda r, kind=kind: f"{r[kind]:.2f}" for kind in ("colour", "shape", "place", "size")},
        "outside": lambda r: f"{r['outside_psnr']['mid']:.1f} dB",
        "Canny-SSIM": lambda r: f"{r['edges']['mid']:.3f}",
        "IoU": lambda r: f"{r['mask_iou']['mid']:.2f}",
    }
    return markdown_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])
