"""Curves of cost, and of what can be had for it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from saccade.papers.kinetics.cost import TERA, Budget, Use, cost_of
from saccade.papers.kinetics.shapes import Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from saccade.papers.kinetics.frontier import Frontier

LENGTHS = tuple(2**i for i in range(8, 16))


def cost_curves(
    shapes: Mapping[str, Shape], budgets: Sequence[Budget | None], *, prompt: int, trials: int, intensity: float
) -> "Figure":
    """Equivalent FLOPs of texts of every length, a colour a model, dashed for budgets of keys."""
    figure, axes = _axes("tokens written", "tera-FLOPs, equivalent")
    for number, (name, shape) in enumerate(shapes.items()):
        for budget in budgets:
            uses = (Use(prompt=prompt, generated=n, trials=trials) for n in LENGTHS)
            values = [cost_of(shape, use, budget).equivalent(intensity) / TERA for use in uses]
            label = name if budget is None else f"{name}, {budget.keys} keys"
            axes.loglog(LENGTHS, values, "-" if budget is None else "--", color=f"C{number}", label=label)
    axes.legend(fontsize=7)
    return figure


def frontier_curves(frontiers: "Mapping[str, Frontier]") -> "Figure":
    """Coverage over budget."""
    figure, axes = _axes("equivalent FLOPs of a question", "coverage")
    for name, found in frontiers.items():
        axes.semilogx(found.budgets, found.coverage, label=name)
    axes.legend(fontsize=7)
    return figure


def _axes(x: str, y: str) -> tuple["Figure", "np.ndarray"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
