"""The kernel bench measures what it says and writes it down."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from saccade import ops
from saccade.cli import bench_kernels
from saccade.ops import native, native_cost, native_measure


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Costs that are kept concern no other test."""
    monkeypatch.setattr(native_cost, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(native_measure, "TOKENS", 128)
    yield
    native_cost._kept.cache_clear()


def test_figures_are_shown_written_and_follow_from_one_another(
    own_cache: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kernels.json"
    options = {"n": [600], "density": [0.25], "dtype": ["float32"], "d": 16, "rounds": 1, "kernel": ["gather"]}
    measured = {"threads": torch.get_num_threads(), "costs": ops.warm() is None}
    bench_kernels.kernels(out, **options, **measured)
    shown, rows = capsys.readouterr().out, json.loads(out.read_text())["rows"]
    sparse = [row for row in rows if row.get("speedup") is not None]
    assert [(row["pattern"], row["block"]) for row in sparse] == [("random", 128), ("random", 64), ("disc", None)]
    for row in sparse:
        best = min(each["median_ms"] for each in rows if each["case"] == row["case"] and each["speedup"] is None)
        assert row["speedup"] == pytest.approx(best / row["median_ms"])
        assert row["efficiency"] == pytest.approx(row["speedup"] * row["density"])
        assert row["density"] == pytest.approx(0.25, abs=0.06) and row["area"] >= row["density"] - 1e-6
        assert f"efficiency {row['efficiency']:.2f}" in shown
    (peak,) = (row for row in rows if row["case"] == "600 peak")
    assert peak["refused"] or (peak["n"] == 512 and 0 < peak["reached"])
    costs = [row for row in rows if row["case"] == "costs"]
    assert len(costs) == sum(len(native_cost.usual_costs(dtype)) for dtype in native.TYPES) * measured[
        "costs"
    ] and shown.count("costs") == len(costs)


def test_what_is_refused_says_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_NATIVE", "off")
    monkeypatch.setattr(native, "_state", {"warm": False, "reason": native.COLD})
    options = {"n": [128], "density": [0.5], "dtype": ["float32"], "pattern": ["random"], "block": [32], "rounds": 1}
    bench_kernels.kernels(threads=torch.get_num_threads(), kernel=["native"], **options)
    assert capsys.readouterr().out.count("SACCADE_NATIVE=off switches it off") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": ["int8"]}, "dtype='int8' must be one of float32, bfloat16, float16"),
        ({"pattern": ["stripes"]}, "pattern='stripes' must be one of random, disc"),
        ({"density": [0.0]}, r"density=0.0 must be in \(0, 1\]"),
        ({"n": [64]}, "n=64 must be at least one block of 128"),
        ({"block": [0]}, "block=0 must be at least 1"),
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"kernel": ["sdpa"]}, "kernel='sdpa' must be one of native, gather, flex"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench_kernels.kernels(threads=torch.get_num_threads(), **options)
