"""Language models at one budget: equal costs, caches by token, curves, results that stay, and the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.cli.bench_languages import as_model, run, table
from saccade.core.catalogue import language_arms
from saccade.models import CausalLM
from saccade.models.sizing import Arm, build, parameters
from saccade.train.causal import CausalStage
from saccade.train.language_comparison import (
    ARMS,
    LanguageComparison,
    MeasuredTask,
    Texts,
    cache_bytes,
    written,
)
from saccade.train.loop import Fit, fit
from saccade.train.records import MEASURED

TINY = LanguageComparison(
    arms=(Arm(name="attention", model="CausalLM"), Arm(name="linear", model='CausalLM(mixer="approx")')),
    depth=1, width=32, heads=2, source="captions", seeds=(0,), batch=4, length=16, windows=8, glimpsed=4,
    fit=Fit(steps=4, precision="no", log_every=2, measure_every=2),
)  # fmt: skip


@pytest.mark.slow
def test_all_arms_get_results_that_are_not_made_twice(tmp_path: Path) -> None:
    found = TINY.run(tmp_path)
    assert [result["arm"] for result in found] == ["attention", "linear"]
    for result in found:
        assert 0 < result["loss"] < 5 and result["seconds"] >= 0
        assert [step for step, *_ in result["curve"]] == [2, 4]
        assert result["curve"][0][1] == 2 * 3 * result["macs"] * 16 * 4
    assert found[0]["cache_bytes"] == 2 * 32 * 4
    path = tmp_path / "linear-0" / "result.json"
    path.write_text(json.dumps(found[1] | {"loss": -1}))
    assert TINY.run(tmp_path)[1]["loss"] == -1
    with pytest.raises(ValueError, match=r"holds runs of other settings \(length: 16 there, 8 here\)"):
        replace(TINY, length=8).run(tmp_path)
    with pytest.raises(ValueError, match=r"holds model=CausalLM\(mixer=\"approx\"\), not CausalLM; name the arm"):
        replace(TINY, arms=(Arm(name="linear", model="CausalLM"),)).run(tmp_path)
    path.unlink()
    assert TINY.run(tmp_path)[1] == found[1]  # measured again from the weights, not trained again


@pytest.mark.parametrize("budget", ["macs", "parameters"])
def test_budgets_are_met_by_widths_that_heads_can_turn(budget: Any) -> None:
    wide = 'CausalLM(ffn="swiglu(hidden=256)")'
    comparison = replace(TINY, width=64, heads=4, arms=(Arm(name="wide", model=wide),), budget=budget)
    base = comparison.base(comparison.open())
    size = comparison.size(comparison.arms[0], base)
    assert size % 8 == 0 and size < 64
    spent = comparison.cost(build(wide, **base | {"width": size}), base)
    assert abs(spent / comparison.cost(build("CausalLM", **base), base) - 1) < 0.15


def test_multiply_adds_are_those_of_a_token() -> None:
    base = TINY.base(TINY.open())
    model = build("CausalLM", **base)
    by_hand = 4 * 32**2 + 3 * 32 * 88 + 32 * 68 + 2 * 16 * 32  # attention, feed-forward, logits, pairs
    assert base["ffn"] == "swiglu(hidden=88)" and TINY.multiply_adds(model, base) == by_hand
    assert parameters(model) == 4 * 32**2 + 3 * 32 * 88 + 32 * 68 + 3 * 32


def test_caches_by_token() -> None:
    sizes = {"depth": 2, "width": 32, "heads": 2, "ffn": "swiglu(hidden=8)"}
    assert cache_bytes(CausalLM(**sizes), 10) == 2 * 2 * 32 * 4
    assert cache_bytes(CausalLM(**sizes, mixer="nonapprox"), 10) == 2 * (32 + 2) * 4 / 10
    assert cache_bytes(CausalLM(**sizes, mixer="mlp"), 10) == 0
    assert cache_bytes(CausalLM(**sizes, mixer="linear"), 10) is None
    for mixer in ("attention", "nonapprox"):
        seen: list[int] = []
        model = CausalLM(**sizes, mixer=mixer)
        model.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].shape[1]))
        written(model, torch.zeros(1, 12, dtype=torch.long), tokens=4)
        assert seen == [9, 1, 1, 1]


def test_times_of_all_kinds_of_work() -> None:
    found = TINY.times(3)
    assert {kind: each[1] for kind, each in found["attention"].items()} == {"forward": 1, "step": 1, "decode": 1}
    assert all(middle > 0 for _, middle, _ in found["linear"].values())


def test_a_task_is_measured_once_a_step_also_after_a_kill(tmp_path: Path) -> None:
    text = torch.from_numpy(np.random.default_rng(0).integers(60, size=400))
    stage = CausalStage(fit=Fit(steps=4, precision="no", measure_every=1, save_every=3), length=8, batch=2)

    def task() -> MeasuredTask:
        torch.manual_seed(0)
        model = CausalLM(depth=1, width=16, heads=2, ffn="swiglu(hidden=8)")
        return MeasuredTask(model, Texts(text, text, 68), stage, 4)

    def lines(name: str) -> list[Any]:
        return [json.loads(line) for line in (tmp_path / name / MEASURED).read_text().splitlines()]

    fit(task(), stage.fit, tmp_path / "whole")
    assert [line["step"] for line in lines("whole")] == [1, 2, 3, 4]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / MEASURED).write_text('{"step": 9, "held_out": 0.0}\n')  # after the last checkpoint
    fit(task(), stage.fit, tmp_path / "cut")
    assert lines("cut") == lines("whole")


@pytest.mark.slow
def test_the_command_takes_mixers_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.train.language_comparison.LanguageComparison", lambda: TINY)
    file = tmp_path / "figures.json"
    arms = ["attention", "mine=nonapprox(qk_norm=True)"]
    bench = run(tmp_path / "runs", arms, ["seeds=0,1"], rounds=2, file=file)
    runs, (first, mine) = bench.rows[:4], bench.rows[4:]
    assert [each["arm"] for each in runs] == ["attention", "mine", "attention", "mine"]
    assert first["decode"] == (1.0, 1.0, 1.0)
    assert mine["arm"] == "mine" and table(bench.rows).row_count == 2
    assert len(json.loads(file.read_text())["rows"]) == 6
    assert "</svg>" in (tmp_path / "runs" / "loss.svg").read_text()


def test_arms_of_papers_are_models_of_text() -> None:
    assert {arm.name for arm in ARMS} == {"attention", *language_arms()} and {"approx", "mlp_even"} < {*language_arms()}
    base = TINY.base(TINY.open()) | {"depth": 2}
    for arm in ARMS:
        model = build(arm.model, **base)
        assert model(torch.zeros(1, 5, dtype=torch.long)).out.shape == (1, 5, 68)


def test_messages() -> None:
    assert as_model("nonapprox(qk_norm=True)") == "CausalLM(mixer='nonapprox(qk_norm=True)')"
    assert as_model("CausalLM(depth=2)") == "CausalLM(depth=2)"
    with pytest.raises(ValueError, match="'dot' is neither a mixer .* nor a model"):
        as_model("dot")
    with pytest.raises(ValueError, match="length=0"):
        replace(TINY, length=0)
    with pytest.raises(ValueError, match="budget='seconds' must be one of macs, parameters"):
        replace(TINY, budget="seconds")
