"""Put the figures of `saccade bench architectures` into docs/results/architectures.md, with its pictures.

saccade bench architectures --out runs/scenes --json docs/results/architectures-scenes.json
saccade bench architectures --out runs/cifar10 --set source=cifar10 --json docs/results/architectures-cifar10.json
python recipes/architectures_page.py
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure

from saccade.metrics.intervals import Interval, t_interval
from saccade.ui.markdown import fill_marks, markdown_table, signed

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
PAGE = RESULTS / "architectures.md"
SOURCES = ("scenes", "cifar10")
AGAINST = "dit"
Figures = dict[str, Any]
rcParams["svg.hashsalt"] = "saccade"  # the same picture from the same figures
Runs = list[dict[str, Any]]


def main() -> None:
    """A picture and a table for each source."""
    parts = {}
    for source in SOURCES:
        figures = json.loads((RESULTS / f"architectures-{source}.json").read_text())
        draw(figures, RESULTS / f"architectures-{source}.svg")
        parts[source] = section(source, figures)
    PAGE.write_text(fill_marks(PAGE.read_text(), parts))


def section(source: str, figures: Figures) -> str:
    """Picture, table and setting."""
    told = figures["settings"]
    setting = (
        f"{told['side']} x {told['side']} pixels, {told['fit']['steps']:,} steps of {told['batch']} pictures, "
        f"seeds {', '.join(map(str, told['seeds']))}; {told['samples']} samples in {told['drawn']} steps with guidance "
        f"{told['guidance']}; {figures['device']}, torch {figures['versions']['torch']}"
    )
    alt = "Loss over the steps, and loss against time of a training step, of every architecture"
    return f"![{alt}](architectures-{source}.svg)\n\n{table(figures)}\n\n{setting}."


def table(figures: Figures) -> str:
    """A row an arm, best loss first."""
    runs: Runs = figures["runs"]
    arms = sorted({run["arm"] for run in runs}, key=lambda arm: fmean(_of(runs, arm, "loss")))
    heads = ["arm", "width", "parameters", "MMACs", "loss", "above DiT", "Frechet*", "accuracy"]
    heads += ["kept KiB", "forward", "step"]
    return markdown_table(heads, [row(arm, runs, figures["times"].get(arm)) for arm in arms])


def row(arm: str, runs: Runs, times: Figures | None) -> list[str]:
    """One arm's cells."""
    first = next(run for run in runs if run["arm"] == arm)
    above = "" if arm == AGAINST else signed(apart(runs, arm), 4)
    return [
        arm, str(first["scaled"]), f"{first['parameters']:,}", f"{first['macs'] / 1e6:.1f}",
        f"{fmean(_of(runs, arm, 'loss')):.4f}", above, str(t_interval(_of(runs, arm, "frechet"))),
        f"{fmean(_of(runs, arm, 'accuracy')):.0%}", f"{first['kept_bytes'] / 1024:,.0f}",
        *(f"{times[kind][1]:.2f}" if times else "" for kind in ("forward", "step")),
    ]  # fmt: skip


def apart(runs: Runs, arm: str) -> Interval:
    """How much higher an arm's loss is than DiT's, seed by seed."""
    pairs = zip(_of(runs, arm, "loss"), _of(runs, AGAINST, "loss"), strict=True)
    return t_interval([a - b for a, b in pairs])


def draw(figures: Figures, path: Path) -> None:
    """Loss over steps, a line an arm; and final loss against the time of a step."""
    runs: Runs = figures["runs"]
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, arm in enumerate(arms):
        look = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
        curves = [run["curve"] for run in runs if run["arm"] == arm]
        steps = [point[0] for point in curves[0]]
        left.plot(steps, [fmean(c[i][1] for c in curves) for i in range(len(steps))], label=arm, linewidth=1.2, **look)
        if times := figures["times"].get(arm):
            right.plot(times["step"][1], fmean(_of(runs, arm, "loss")), "o", color=look["color"])
            right.annotate(
                arm, (times["step"][1], fmean(_of(runs, arm, "loss"))), xytext=(4, 3), textcoords="offset points"
            )
    left.set(xlabel="step", ylabel="training loss, mean over seeds", yscale="log")
    left.legend(fontsize=7, ncols=2)
    right.set(xlabel="time of a training step, DiT's = 1", ylabel="loss on held-out pictures")
    figure.savefig(path, format="svg", metadata={"Date": None})


def _of(runs: Runs, arm: str, name: str) -> list[float]:
    return [run[name] for run in sorted(runs, key=lambda run: run["seed"]) if run["arm"] == arm]


if __name__ == "__main__":
    main()
