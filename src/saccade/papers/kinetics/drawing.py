"""Curves of cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from saccade.papers.kinetics.cost import TERA, Budget, Use, cost_of
from saccade.papers.kinetics.shapes import Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTHS = tuple(2**i for i in range(8, 16))


def cost_curves(
    shapes: Mapping[str, Shape], budgets: Sequence[Budget | None], *, prompt: int, trials: int, intensity: float
) -> "Figure":
    """Equivalent FLOPs of texts of every length, a colour a model, dashed for budgets of keys."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("tokens written")
    axes.set_ylabel("tera-FLOPs, equivalent")
    for number, (name, shape) in enumerate(shapes.items()):
        for budget in budgets:
            uses = (Use(prompt=prompt, generated=n, trials=trials) for n in LENGTHS)
            values = [cost_of(shape, use, budget).equivalent(intensity) / TERA for use in uses]
            label = name if budget is None else f"{name}, {budget.keys} keys"
            axes.loglog(LENGTHS, values, "-" if budget is None else "--", color=f"C{number}", label=label)
    axes.legend(fontsize=7)
    return figure
