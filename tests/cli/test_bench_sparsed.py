"""`saccade bench sparsed`: what it measures, and that it says what it needs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saccade.cli import app, bench_sparsed


@pytest.mark.compile
def test_steps_and_runs_are_measured_for_attention_and_for_a_model(tmp_path: Path) -> None:
    words = "bench sparsed --tokens 512 --dtype float32 --heads 1 --layers 1 --rounds 2 --keep 0.5 --json"
    result = CliRunner().invoke(app, [*words.split(), str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row["what"] for row in figures["rows"]] == ["attention", "model"]
    for row in figures["rows"]:
        assert (
            row["density"] == 0.75
        )  # 3 of 4 blocks for each block of queries: int(4 * 0.5) + 1, one of them generated
        assert min(row[f"{kind}_ms"] for kind in bench_sparsed.KINDS) > 0
        assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
        assert 1 <= row["ideal"] <= 4 / 3 + 1e-9
        assert [run["steps"] for run in row["runs"]] == [32, 128, 1024]


@pytest.mark.compile
def test_without_a_compiler_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_sparsed, "warm", lambda: "no C++ compiler")
    monkeypatch.setattr(bench_sparsed.native, "refuses", lambda call, **given: ["not warmed"])
    figures = bench_sparsed.run(sizes=(256,), dtypes=("float32",), heads=1, layers=1, rounds=2, threads=1)
    assert figures["remarks"] == ["native is left out: no C++ compiler"]
    assert [row["best_ms"] for row in figures["rows"]] == [None, None]
    assert all(row["sparse_ms"] > 0 for row in figures["rows"])


def test_a_whole_run_counts_finding_and_preparing_once() -> None:
    ms = {"plain_ms": 10.0, "dense_ms": 10.0, "find_ms": 25.0, "first_ms": 7.0, "sparse_ms": 4.0}
    found = bench_sparsed._whole(32, ms, 4.0, bench_sparsed.SparseD())
    taken = 7 * 10 + 25 + 7 + 23 * 4  # steps 0 to 6, then 7 finds, 8 prepares, 9 to 31
    assert found["speedup"] == pytest.approx(320 / taken)
    assert found["pattern_share"] == pytest.approx((15 + 3) / taken)
    assert found["ideal"] == pytest.approx(32 / (8 + 24 / 4))


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds=1 must be at least 2, for a median with quartiles"):
        bench_sparsed.run(rounds=1)
    with pytest.raises(ValueError, match="dtypes=int8 must be among float32, bfloat16"):
        bench_sparsed.run(dtypes=("int8",))
    with pytest.raises(ValueError, match="clock='sun' must be one of wall, cpu"):
        bench_sparsed.run(clock="sun")  # type: ignore[arg-type]
