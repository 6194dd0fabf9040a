"""SparseD's experiment: what it measures, and what its page makes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.experiments import Figures, Results
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.metrics.intervals import error_interval, t_interval
from saccade.papers.sparsed import SparseD, step_times
from saccade.papers.sparsed.experiment import CLAIMS, EXPERIMENT, times_table
from saccade.papers.sparsed.step_times import KINDS, Timing, measure, whole_run
from saccade.papers.sparsed.texts import likeness

DOCS = Path(__file__).resolve().parents[3] / "docs"
MS = {"plain_ms": 10.0, "dense_ms": 10.0, "find_ms": 25.0, "first_ms": 7.0, "sparse_ms": 4.0, "ideal": 4.0}


def figures(**tables: list[dict[str, Any]]) -> Results:
    settings = {"timing": {"keep": 0.3, "skip": 0.2}, "texts": {"texts": 16}}
    return Results(device="a machine", date="2026-01-01", versions={}, settings=settings, tables=tables)


def test_steps_are_measured_for_attention_and_for_a_model() -> None:
    rows = measure(512, "float32", Timing(heads=1, layers=1, rounds=2, keep=0.5))
    assert [row["what"] for row in rows] == ["attention", "model"]
    for row in rows:
        assert (
            row["density"] == 0.75
        )  # 3 of 4 blocks for each block of queries: int(4 * 0.5) + 1, one of them generated
        assert min(row[f"{kind}_ms"] for kind in KINDS) > 0
        assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
        assert 1 <= row["ideal"] <= 4 / 3 + 1e-9


def test_without_the_native_kernel_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(step_times.native, "refuses", lambda call, **given: ["no C++ compiler"])
    rows = measure(256, "float32", Timing(heads=1, layers=1, rounds=2))
    assert [row["best_ms"] for row in rows] == [None, None]
    assert all(row["sparse_ms"] > 0 for row in rows)
    shown = [{**row, "lacks": "no C++ compiler", "device": "2 threads"} for row in rows]
    page = times_table(figures(times=shown), Figures(folder=tmp_path, name="sparsed"))
    assert page.endswith("threads 2; 2 threads. Without the native kernel: no C++ compiler.")


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with step_times.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_whole_run_counts_finding_and_preparing_once() -> None:
    found = whole_run(32, MS, SparseD())
    taken = 7 * 10 + 25 + 7 + 23 * 4  # steps 0 to 6, then 7 finds, 8 prepares, 9 to 31
    assert found["speedup"] == pytest.approx(320 / taken)
    assert found["pattern_share"] == pytest.approx((15 + 3) / taken)
    assert found["ideal"] == pytest.approx(32 / (8 + 24 / 4))


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds=1 must be at least 2, for a median with quartiles"):
        Timing(rounds=1)
    with pytest.raises(ValueError, match="dtypes=int8 must be among float32, bfloat16"):
        Timing(dtypes=("int8",))


def test_equal_maps_are_alike_and_maps_without_common_keys_are_not() -> None:
    one, other = torch.eye(2), torch.eye(2).flip(0)
    found = likeness(torch.stack([torch.stack([one, other])] * 3))  # three steps, two heads
    assert found == pytest.approx({"next_step": 1, "first_and_last": 1, "other_heads": 0})


def test_a_mean_with_its_standard_error_has_the_interval_of_its_values() -> None:
    values = [0.1, 0.4, 0.2, 0.7]
    error = float(torch.tensor(values, dtype=torch.float64).std()) / 2
    assert error_interval(0.35, error, 4).low == pytest.approx(t_interval(values).low)


def test_a_claim_is_decided_by_the_errors_of_both_arms() -> None:
    row = {"kl": 0.01, "kl_error": 0.001}
    arms = [
        {"arm": "SparseD, keep 0.3", **row},
        {"arm": "window", **row, "kl": 0.011},
        {"arm": "no isolation", "kl": 0.02},
    ]
    arms[2]["kl_error"] = 0.001
    claims = {claim.text: claim for claim in CLAIMS}
    isolation = next(claim for text, claim in claims.items() if "isolation" in text)
    window = next(claim for text, claim in claims.items() if "window" in text)
    assert (isolation.verdict(figures(arms=arms)), window.verdict(figures(arms=arms))) == ("confirmed", "undecided")


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page = (DOCS / EXPERIMENT.page).read_text()
    parts = made(EXPERIMENT.sections, newest(DOCS / "results", "sparsed"), Figures(folder=tmp_path, name="sparsed"))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
