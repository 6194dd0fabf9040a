"""The frontier: what is best within a budget, by questions and by one setting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.papers.kinetics import best_fixed, best_per_question
from saccade.papers.kinetics.frontier import smoothed

BUDGETS = np.geomspace(1, 100, 20)


def tables(seed: int, settings: int = 5, questions: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 120, (settings, questions)), rng.uniform(0, 1, (settings, questions))


def test_a_worked_example() -> None:
    costs = np.array([[1.0, 1.0], [10.0, 2.0]])
    coverages = np.array([[0.5, 0.2], [0.9, 0.6]])
    found = best_per_question(costs, coverages, np.array([0.5, 1.0, 2.0, 10.0]), smooth=False)
    assert found.coverage.tolist() == pytest.approx([0, 0.35, 0.55, 0.75])
    assert found.chosen.tolist() == [-1, 0, 0, 1]
    one = best_fixed(costs, coverages, np.array([0.5, 1.0, 2.0, 10.0]))
    assert one.coverage.tolist() == pytest.approx([0, 0.35, 0.35, 0.75]) and one.chosen.tolist() == [-1, 0, 0, 1]
    assert (found.at(0.5), found.at(0.8)) == (2.0, float("inf"))
    assert one.beside(found, 0.5) == 5.0 and np.isnan(one.beside(found, 0.9))
    assert found.gap(one).tolist() == pytest.approx([0, 0, 0.2, 0])


@given(seed=st.integers(0, 50))
def test_frontiers_rise_and_the_oracle_is_above(seed: int) -> None:
    costs, coverages = tables(seed)
    free, one = best_per_question(costs, coverages, BUDGETS, smooth=False), best_fixed(costs, coverages, BUDGETS)
    assert (np.diff(free.coverage) >= 0).all() and (np.diff(one.coverage) >= 0).all()
    assert (best_per_question(costs, coverages, np.array([1e9]), smooth=False).coverage >= one.coverage.max()).all()


@given(seed=st.integers(0, 20), budget=st.floats(1, 150))
def test_each_question_takes_its_best_affordable_setting(seed: int, budget: float) -> None:
    costs, coverages = tables(seed)
    within = np.where(costs <= budget, coverages, 0)
    wanted = np.mean([max(column) for column in within.T])
    found = best_per_question(costs, coverages, np.array([budget]), smooth=False)
    assert found.coverage[0] == pytest.approx(wanted)


def test_smoothing_takes_three_points() -> None:
    assert smoothed(np.array([0.0, 3.0, 6.0, 0.0])).tolist() == [1.5, 3.0, 3.0, 3.0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"costs \(2, 3\) and coverages \(3, 2\) must be one shape"):
        best_fixed(np.ones((2, 3)), np.ones((3, 2)), BUDGETS)
    a, b = (best_fixed(np.ones((1, 1)), np.ones((1, 1)), budgets) for budgets in (BUDGETS, BUDGETS[:3]))
    with pytest.raises(ValueError, match="budgets differ between the frontiers"):
        a.gap(b)
