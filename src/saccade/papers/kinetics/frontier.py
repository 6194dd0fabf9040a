"""The best that can be had for so much: over settings and questions, by an oracle for each question or by one setting.

A setting's cost and coverage are arrays (settings, questions). An oracle that knows the best setting of each question
overstates what one setting for all reaches; both are here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Table = Float[np.ndarray, "_s _q"]
Curve = Float[np.ndarray, " c"]


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """`coverage` at each of `budgets`, rising, and which setting gives it (-1: none is cheap enough)."""

    budgets: Curve
    coverage: Curve
    chosen: Int[np.ndarray, " c"]

    def at(self, coverage: float) -> float:
        """The least budget that reaches a coverage; infinite where none does."""
        reached = self.budgets[self.coverage >= coverage]
        return float(reached[0]) if len(reached) else float("inf")

    def beside(self, other: "Frontier", coverage: float) -> float:
        """How many times as much as another's this frontier's coverage costs; NaN where neither reaches it."""
        ours, theirs = self.at(coverage), other.at(coverage)
        return float("nan") if np.isinf(ours) and np.isinf(theirs) else ours / theirs

    def gap(self, other: "Frontier") -> Curve:
        """By how much coverage at equal cost exceeds another's.

        Raises ValueError for other budgets.
        """
        if not np.array_equal(self.budgets, other.budgets):
            raise ValueError("budgets differ between the frontiers; search both at the same")
        return self.coverage - other.coverage


def best_per_question(costs: Table, coverages: Table, budgets: Curve, *, smooth: bool = True) -> Frontier:
    """Each question by its own best setting within the budget, 0 without one; means over questions, of three points.

    `chosen` is the setting that serves most questions.
    Raises ValueError for tables of different shapes.
    """
    check_tables(costs, coverages)
    found, chosen = [], []
    for budget in budgets:
        within = np.where(costs <= budget, coverages, -1.0)
        best = within.max(0)
        found.append(np.maximum(best, 0).mean())
        served = within.argmax(0)[best >= 0]
        chosen.append(np.bincount(served).argmax() if len(served) else -1)
    curve = np.array(found)
    return Frontier(budgets=budgets, coverage=smoothed(curve) if smooth else curve, chosen=np.array(chosen))


def best_fixed(costs: Table, coverages: Table, budgets: Curve) -> Frontier:
    """The one setting, the same for all questions, whose mean cost is within the budget and mean coverage the best."""
    check_tables(costs, coverages)
    cost, coverage = costs.mean(1), coverages.mean(1)
    within = np.where(cost[:, None] <= budgets, coverage[:, None], -1.0)
    best = within.max(0)
    return Frontier(
        budgets=budgets, coverage=np.maximum(best, 0), chosen=np.where(best >= 0, within.argmax(0), -1)
    )  # fmt: skip


def smoothed(curve: Curve) -> Curve:
    """Means of three points, of two at the ends."""
    padded = np.concatenate((curve[:1], curve, curve[-1:]))
    found = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    found[[0, -1]] = curve[:2].mean(), curve[-2:].mean()
    return found


def check_tables(costs: Table, coverages: Table) -> None:
    """Raise ValueError unless both have the same settings and questions, and at least one of each."""
    if costs.shape != coverages.shape or costs.ndim != 2 or 0 in costs.shape:
        raise ValueError(f"costs {costs.shape} and coverages {coverages.shape} must be one shape (settings, questions)")
