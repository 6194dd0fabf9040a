"""Shares and ratios of a step: when, how often, and the same on all processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.data.labelled import open_source
from saccade.models.architecture import Prediction
from saccade.papers.dc_dit.multi_budget import BudgetTask, MultiBudget, Ramp, step_of
from saccade.train.denoising import ArchitectureStage
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow


class Recorder(nn.Module):
    """A denoiser that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))
        self.asked: list[dict[str, Any]] = []

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, **options: Any) -> Prediction:
        self.asked.append({"rows": len(x), **options})
        return Prediction(self.gain * x, {"ratio": self.gain.square().sum()})


def _task(**options: Any) -> BudgetTask:
    source = open_source("scenes", side=16, count=8, held=4)
    return BudgetTask(Recorder(), RectifiedFlow(), source, ArchitectureStage(batch=4), **options)


def _trained(folder: Path, task: BudgetTask, **options: Any) -> list[dict[str, Any]]:
    fit(task, Fit(steps=6, precision="no", sheet_every=100, **options), folder, cpu=True)
    assert isinstance(task.model, Recorder)
    return task.model.asked


def test_nothing_is_dropped_while_warming_up(tmp_path: Path) -> None:
    task = _task(budget=MultiBudget(shares=(0.3, 0.6), warmup=3), ramp=Ramp(start=2.0, end=4.0, steps=4))
    task.sheet = lambda: None  # type: ignore[method-assign]
    asked = _trained(tmp_path, task)
    assert [each["rho"] for each in asked[:3]] == [0, 0, 0] and {each["rho"] for each in asked[3:]} <= {0.3, 0.6}
    assert [each["ratio"] for each in asked] == [2.0, 2.5, 3.0, 3.5, 4.0, 4.0]


def test_all_parts_of_a_batch_have_one_share(tmp_path: Path) -> None:
    task = _task(budget=MultiBudget(warmup=0))
    task.sheet = lambda: None  # type: ignore[method-assign]
    asked = _trained(tmp_path, task, accumulate=2)
    assert [each["rows"] for each in asked] == [2] * 12
    assert [each["rho"] for each in asked[::2]] == [each["rho"] for each in asked[1::2]]
    assert len({each["rho"] for each in asked}) > 1


def test_the_share_follows_from_the_seed_and_the_pictures_do_not_change() -> None:
    task, plain = _task(budget=MultiBudget(warmup=0)), _task()
    one, same, none = (each.batch(np.random.default_rng([0, 7, 0])) for each in (task, task, plain))
    assert one["budget"] == same["budget"] and none["budget"] == {"rho": 0.0}
    assert torch.equal(one["x"], none["x"]) and torch.equal(one["noise"], none["noise"])


def test_all_shares_are_drawn_equally_often() -> None:
    budget = MultiBudget(shares=(0.0, 0.5), warmup=0)
    drawn = [budget.rho(step, np.random.default_rng([0, step, 0])) for step in range(400)]
    assert abs(np.mean(drawn) - 0.25) < 5 * 0.25 / 400**0.5  # five standard errors


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"shares=\(0.5, 1.0\) must be one or more numbers in \[0, 1\)"):
        MultiBudget(shares=(0.5, 1.0))
    with pytest.raises(ValueError, match="warmup=-1 must be at least 0"):
        MultiBudget(warmup=-1)
    with pytest.raises(ValueError, match="end=1.0 must be above 1"):
        Ramp(start=4.0, end=1.0, steps=10)
    with pytest.raises(ValueError, match="steps=0 must be above 0"):
        Ramp(start=4.0, end=8.0, steps=0)
    with pytest.raises(ValueError, match="rng was made from 3; give one made from"):
        step_of(np.random.default_rng(3))
