"""The study of architectures: what is kept of a curve, and what its table and settings say."""

from pathlib import Path

import pytest

from saccade.experiments import Figures, Results
from saccade.studies.architectures import EXPERIMENT, POINTS, Section, comparison, decimated, mean_curve
from saccade.train.budget_comparison import BudgetComparison


def test_a_curve_keeps_its_ends_and_few_points_denser_early() -> None:
    curve = [(step, 1 / step) for step in range(20, 1001, 20)]
    kept = decimated(curve)
    assert kept[0] == curve[0] and kept[-1] == curve[-1] and len(kept) <= POINTS
    gaps = [b[0] - a[0] for a, b in zip(kept, kept[1:], strict=False)]
    assert gaps[0] < gaps[-1]
    assert decimated(curve[:2]) == curve[:2] and decimated(curve[:1]) == curve[:1]


def test_curves_are_means_over_seeds() -> None:
    runs = [{"arm": "dit", "curve": [(1, 2.0), (2, 1.0)]}, {"arm": "dit", "curve": [(1, 4.0), (2, 3.0)]}]
    assert list(mean_curve(runs, "dit")) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]


def test_the_settings_are_those_of_the_bench() -> None:
    assert comparison(EXPERIMENT.settings, "scenes") == BudgetComparison()


def record() -> Results:
    """Two arms and two seeds, made up."""
    about = {"source": "scenes", "scaled": 64, "parameters": 1000, "macs": 2e6, "kept_bytes": 2048}
    losses = {("dit", 0): 0.2, ("dit", 1): 0.4, ("moh", 0): 0.1, ("moh", 1): 0.2, ("moh", 2): 0.0}
    runs = [
        about | {"arm": arm, "seed": seed, "loss": loss, "frechet": 2.0, "accuracy": 0.5}
        for (arm, seed), loss in losses.items()
    ]
    times = [{"source": "scenes", "arm": arm, "forward": 1.0, "step": step} for arm, step in (("dit", 1), ("moh", 2))]
    curves = [{"source": "scenes", "arm": arm, "step": s, "loss": 1 / s} for arm in ("dit", "moh") for s in (1, 2)]
    settings = {"side": 16, "sources": {"scenes": 1000}, "batch": 16, "seeds": [0, 1], "samples": 500}
    return Results(
        device="d", date="2026-01-01", versions={}, settings=settings | {"sampling_steps": 25, "guidance": 1.5},
        tables={"runs": runs, "times": times, "curves": curves},
    )  # fmt: skip


def test_arms_are_sorted_by_loss_and_compared_seed_by_seed(tmp_path: Path) -> None:
    text = Section("scenes")(record(), Figures(folder=tmp_path, name="architectures"))
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert lines[0].startswith("| moh | 64 | 1,000 | 2.0 | 0.1000 | -0.1500 | 2 [2, 2] | 50% | 2 | 1.00 | 2.00 |")
    assert lines[1].startswith("| dit | 64 | 1,000 | 2.0 | 0.3000 |  |")
    assert "1,000 steps of 16 pictures, seeds 0, 1; 500 samples in 25 steps with guidance 1.5." in text
    assert (tmp_path / "architectures-scenes.svg").exists()


@pytest.mark.parametrize("source", ["cifar10"])
def test_a_source_that_was_not_run_is_said_to_be_missing(source: str, tmp_path: Path) -> None:
    assert Section(source)(record(), Figures(folder=tmp_path, name="architectures")) == "Not run."
