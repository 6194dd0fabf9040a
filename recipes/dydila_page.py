"""Put the figures of docs/results/dydila.json into docs/papers/dydila.md.

python recipes/dydila_page.py
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure

from saccade.metrics.intervals import Interval, t_interval
from saccade.ui.markdown import filled, markdown_table, signed, verdict

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE, PICTURE = (
    DOCS / "results" / "dydila.json",
    DOCS / "systems" / "dydila.md",
    DOCS / "results" / "dydila.svg",
)
OURS = "DyDiLA"
CLAIMS = {  # what has the higher loss, then the lower
    "softmax has at most its loss": (OURS, "softmax"),
    "focused linear attention has a higher loss": ("focused", OURS),
    "ReLU linear attention has a higher loss than focused": ("ReLU", "focused"),
    "one projector for all costs": ("one projector", OURS),
    "one exponent for all costs": ("one exponent", OURS),
    "no difference costs": ("no difference", OURS),
}
Figures = dict[str, Any]
rcParams["svg.hashsalt"] = "saccade"  # the same picture from the same figures


def main() -> None:
    """What stands between the page's marks."""
    figures = json.loads(RESULTS.read_text())
    draw(figures)
    PAGE.write_text(filled(PAGE.read_text(), {"arms": arms(figures), "choices": choices(figures)}))


def arms(figures: Figures) -> str:
    """A line an arm; then the verdicts."""
    names = list(dict.fromkeys(run["arm"] for run in figures["runs"]))
    heads = ["attention", "width", "parameters", "loss", "above DyDiLA", "entropy", "outputs alike", "negative weights"]
    told = "\n".join(f"- {claim}: **{verdict(apart(figures, *pair))}**." for claim, pair in CLAIMS.items())
    seeds = len({run["seed"] for run in figures["runs"]})
    setting = f"{seeds} seeds; {figures['device']}, torch {figures['versions']['torch']}."
    picture = "![Entropy of the maps' rows by layer, for every kind of attention](../results/dydila.svg)"
    table = markdown_table(heads, [row(figures, name) for name in names])
    return f"{picture}\n\n{table}\n\n{told}\n\n{setting}"


def row(figures: Figures, name: str) -> list[str]:
    """Means over seeds, and over layers and times."""
    first = next(run for run in figures["runs"] if run["arm"] == name)
    smears = [each for each in figures["smearing"] if each["arm"] == name]
    return [
        name, str(first["scaled"]), f"{first['parameters']:,}", f"{fmean(losses(figures, name)):.4f}",
        "" if name == OURS else signed(apart(figures, name, OURS), 4),
        f"{fmean(each['entropy'] for each in smears):.3f}", f"{fmean(each['alike'] for each in smears):.3f}",
        f"{fmean(each['negative'] for each in smears):.1%}",
    ]  # fmt: skip


def draw(figures: Figures) -> None:
    """Entropy by layer, a panel a time."""
    rows = figures["smearing"]
    times = sorted({row["t"] for row in rows})
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, t in zip(figure.subplots(1, len(times), sharey=True), times, strict=True):
        for name in dict.fromkeys(row["arm"] for row in rows):
            here = [row for row in rows if row["arm"] == name and row["t"] == t]
            layers = sorted({row["layer"] for row in here})
            means = [fmean(row["entropy"] for row in here if row["layer"] == layer) for layer in layers]
            axes.plot(layers, means, "o-", markersize=3, label=name)
        axes.set(title=f"t = {t}", xlabel="layer", xticks=layers)
    axes.legend(fontsize=7)
    figure.axes[0].set_ylabel("entropy of rows, 1: all alike")
    figure.savefig(PICTURE, format="svg", metadata={"Date": None})


def choices(figures: Figures) -> str:
    """How far the projectors of things lie from those of the background, and of early from late times."""
    found = figures["choices"]
    times = sorted({each["t"] for each in found})
    heads = ["time", "apart by place", "largest share"]
    lines = [
        [
            t, f"{fmean(distance(each['things'], each['rest']) for each in found if each['t'] == t):.3f}",
            f"{fmean(max(each['rest']) for each in found if each['t'] == t):.2f}",
        ]
        for t in times
    ]  # fmt: skip
    early, late = ([each["rest"] for each in found if each["t"] == t] for t in (times[0], times[-1]))
    moved = fmean(distance(a, b) for a, b in zip(early, late, strict=True))
    told = "Total variation between the shares of tokens that pick each projector, mean over layers, sides and seeds."
    between = f"Between the first and the last of these times the background's shares lie {moved:.3f} apart."
    return f"{markdown_table(heads, lines)}\n\n{told} {between}"


def losses(figures: Figures, name: str) -> list[float]:
    """By seed."""
    return [run["loss"] for run in sorted(figures["runs"], key=lambda run: run["seed"]) if run["arm"] == name]


def apart(figures: Figures, one: str, other: str) -> Interval:
    """How much higher the loss of one is, seed by seed."""
    return t_interval([a - b for a, b in zip(losses(figures, one), losses(figures, other), strict=True)])


def distance(a: list[float], b: list[float]) -> float:
    """Total variation."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2


if __name__ == "__main__":
    main()
