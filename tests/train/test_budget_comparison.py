"""The fair comparison, at its smallest: equal budgets, results that stay, and a killed comparison that goes on."""

import json
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import pytest
import torch

from saccade.cli.bench_architectures import run, table
from saccade.cli.bench_arms import chosen
from saccade.data.labelled import open_scenes
from saccade.models.sizing import Arm, build, parameters
from saccade.train.budget_comparison import BudgetComparison
from saccade.train.costs import example, kept_by, multiply_adds, ratios, seconds_in_turn
from saccade.train.loop import Fit

TINY = BudgetComparison(
    arms=(Arm(name="dit"), Arm(name="linear", model='DiT(mixer="linear")')),
    depth=1, width=16, heads=2, patch=4, side=16, seeds=(0,), batch=4, pictures=40, samples=30, drawn=2, label="colour",
    fit=Fit(steps=2, precision="no", log_every=1), judge=Fit(steps=2, precision="no"),
)  # fmt: skip
BASE = {"depth": 1, "width": 16, "heads": 2, "patch": 4, "side": 8, "channels": 3, "classes": 4}


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    few = lru_cache(partial(open_scenes, 16, label="colour", count=60, held=60))
    monkeypatch.setattr("saccade.train.classifier.open_source", lambda *given, **options: few())


@pytest.mark.slow
def test_all_arms_get_results_that_are_not_made_twice(tmp_path: Path) -> None:
    found = TINY.run(tmp_path)
    assert [result["arm"] for result in found] == ["dit", "linear"]
    for result in found:
        assert result["loss"] > 0 and result["frechet"] > 0 and len(result["curve"]) == 2
        assert 0.8 < result["macs"] / found[0]["macs"] < 1.25
    path = tmp_path / "linear-0" / "result.json"
    path.write_text(json.dumps(found[1] | {"loss": -1}))
    assert TINY.run(tmp_path)[1]["loss"] == -1
    with pytest.raises(ValueError, match=r"holds runs of other settings \(batch: 4 there, 8 here\); name another"):
        replace(TINY, batch=8).run(tmp_path)
    with pytest.raises(ValueError, match=r"holds model=DiT\(mixer=\"linear\"\), not DiT; name the arm otherwise"):
        replace(TINY, arms=(Arm(name="linear"),)).run(tmp_path)
    with pytest.raises(ValueError, match="holds option=width, not depth; name the arm otherwise"):
        replace(TINY, arms=(replace(TINY.arms[1], scaled="depth", step=1),)).run(tmp_path)
    path.unlink()
    again = TINY.run(tmp_path)[1]  # judged again from the weights, not trained again
    assert again == found[1]


@pytest.mark.slow
def test_command_adds_arms_and_tells_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.train.budget_comparison.BudgetComparison", lambda: TINY)
    file = tmp_path / "figures.json"
    bench = run(tmp_path / "runs", ["dit", 'mine=DiT(ffn="swiglu")'], ["seeds=0,1"], rounds=2, file=file)
    runs, (dit, mine) = bench.rows[:4], bench.rows[4:]
    assert [each["arm"] for each in runs] == ["dit", "mine", "dit", "mine"]
    assert (dit["forward"], mine["arm"]) == ((1.0, 1.0, 1.0), "mine") and mine["step"][1] > 0
    kept = json.loads(file.read_text())
    assert kept["settings"]["budget"] == "macs" and len(kept["rows"]) == 6
    assert table(kept["rows"]).row_count == 2


def test_budgets_are_met() -> None:
    arm = Arm(name="swiglu", model='DiT(ffn="swiglu")')
    for budget in ("macs", "parameters"):
        comparison = replace(TINY, width=64, arms=(arm,), budget=budget)
        base = comparison.base(TINY.open())
        cost = comparison.cost(build(arm.model, **base | {"width": comparison.size(arm, base)}), base)
        assert abs(cost / comparison.cost(build("DiT", **base), base) - 1) < 0.08


def test_costs_of_a_dit() -> None:
    model = build("DiT", **BASE)
    by_hand = 4 * 48 * 16 + 4 * 12 * 16**2 + 2 * 4 * 4 * 16 + 4 * 16 * 96  # patches, block, attention, final
    by_hand += 256 * 16 + 16**2 + 6 * 16**2 + 2 * 16**2  # time, modulations
    assert multiply_adds(model, BASE) == by_hand
    assert multiply_adds(build("DiT", **BASE, learned_variance=False), BASE) < by_hand
    assert kept_by(model, BASE, rows=4) > 4 * 16 * 4 and parameters(model) > 0


def test_times_are_ratios_within_rounds() -> None:
    models = {"dit": build("DiT", **BASE), "two": build("DiT", **BASE | {"depth": 2})}
    found = seconds_in_turn(models, BASE, rows=2, rounds=3)
    assert {len(kind) for spent in found.values() for kind in spent.values()} == {3}
    assert all(weight.grad is None for weight in models["dit"].parameters())
    low, middle, high = ratios(found, "dit")["two"]["step"]
    assert 0 < low <= middle <= high


def test_example_fits_any_number_of_rows() -> None:
    x, t, labels = example(BASE, 6)
    assert x.shape == (6, 3, 8, 8) and t.shape == (6,) and int(labels.max()) == 3
    assert torch.equal(x, example(BASE, 6)[0])


def test_messages() -> None:
    with pytest.raises(ValueError, match="budget='seconds' must be one of macs, parameters"):
        replace(TINY, budget="seconds")
    with pytest.raises(ValueError, match=r"arms=\['dit', 'dit'\] must differ in name"):
        replace(TINY, arms=(Arm(name="dit"), Arm(name="dit")))
    with pytest.raises(ValueError, match="arm 'dot' is unknown; choose from dit, linear"):
        chosen(["dot"], TINY.arms)
