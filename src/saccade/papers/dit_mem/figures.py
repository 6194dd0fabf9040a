"""Pictures of DiT-Mem's page, drawn from results: ways of things, and the filters' gains."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saccade.data.scenes.video import DIRECTIONS
from saccade.experiments import Figures, Results
from saccade.metrics.intervals import t_interval
from saccade.papers.dit_mem.frequency import frequency_weights
from saccade.papers.dit_mem.rules import RULES, TRAVEL
from saccade.papers.dit_mem.small_run import NONE, RANDOM, RETRIEVED

TONES = dict(zip(RULES, ("C0", "C1", "C2", "C3"), strict=True))


def plot_ways(results: Results, figures: Figures) -> str:
    """A panel for each arm; dashed the rule, from the first place of each thing."""
    figure = Figure(figsize=(7.6, 2.9), layout="constrained")
    for panel, arm in zip(figure.subplots(1, 3), (NONE, RANDOM, RETRIEVED), strict=True):
        for row in (row for row in results.rows("arms", arm=arm) if row.get("way")):
            panel.plot(*np.array(row["way"]).T, "o-", ms=2.5, lw=1, alpha=0.8, color=TONES[row["shape"]])
        _draw_rules(panel)
        panel.set(title=arm, xlim=(-0.8, 0.8), ylim=(0.8, -0.8), xticks=[], yticks=[], aspect="equal")
    return figures.save("ways", figure, "Ways of things from their first place, by shape; dashed what the rule says")


def _draw_rules(panel: Any) -> None:
    for shape, direction in RULES.items():
        x, y = (TRAVEL * step for step in DIRECTIONS[direction])
        panel.plot((0, x), (0, y), "--", lw=2, color=TONES[shape], label=shape)
        panel.annotate(shape, (1.25 * x, 1.25 * y), ha="center", va="center", fontsize=7, color=TONES[shape])


def plot_filters(results: Results, figures: Figures) -> str:
    """Gain of a middle channel along one axis of the video, by the frequency that an entry stands for."""
    n, figure = 16, Figure(figsize=(6.6, 2.5), layout="constrained")
    frequency = np.fft.fftfreq(n)
    order = frequency.argsort()
    for panel, layout in zip(figure.subplots(1, 2, sharey=True), ("official", "symmetric"), strict=True):
        for band in ("high", "low"):
            gain = frequency_weights(1, (n, 1, 1), band, layout=layout, noise=0)[0, :, 0, 0, 0]  # type: ignore[arg-type]
            panel.plot(frequency[order], gain[order], "o-", ms=3, label=band)
        panel.set(title=layout, xlabel="frequency in time, cycles a frame")
    figure.axes[0].set_ylabel("Re W")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figures.save("filters", figure, "Gains of the filters along time, in both layouts of frequencies")


def plot_errors(results: Results, figures: Figures) -> str:
    """A line for each arm, over videos."""
    figure, arms = Figure(figsize=(6, 2.9), layout="constrained"), results.distinct("arms.arm")
    panel = figure.subplots()
    for place, arm in enumerate(arms):
        found = t_interval(list(results.by("arms.error", "video", arm=arm).values()))
        panel.errorbar(found.mid, place, xerr=[[found.mid - found.low], [found.high - found.mid]], fmt="o", color="C0")
    panel.axvline(TRAVEL / 2, ls="--", lw=1, color="gray")
    panel.set(yticks=range(len(arms)), yticklabels=arms, xlabel="distance from the rule, in sides")
    panel.invert_yaxis()
    return figures.save("errors", figure, "How far things are from the rule's way; dashed a thing that stands still")
