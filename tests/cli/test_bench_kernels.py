"""The kernel bench measures what it says and writes it down."""

import json
from pathlib import Path

import pytest
import torch

from saccade.cli import bench_kernels


def test_figures_are_written_and_follow_from_one_another(tmp_path: Path) -> None:
    threads, out = torch.get_num_threads(), tmp_path / "kernels.json"
    bench_kernels.kernels(out, [600], [0.25], ["float32"], None, 2, 16, 1, threads, "cpu", ["gather"])
    record = json.loads(out.read_text())
    assert {case["pattern"] for case in record["cases"]} == {"random", "disc"}
    assert "torch" in record["versions"]
    for case in record["cases"]:
        best = min(arm["median_ms"] for arm in case["dense"])
        (sparse,) = case["sparse"]
        assert sparse["speedup"] == pytest.approx(best / sparse["median_ms"])
        assert sparse["efficiency"] == pytest.approx(sparse["speedup"] * case["density"])
        assert case["density"] == pytest.approx(0.25, abs=0.06) and case["area"] >= case["density"] - 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": ["int8"]}, "dtype='int8' must be one of float32, bfloat16, float16"),
        ({"pattern": ["stripes"]}, "pattern='stripes' must be one of random, disc"),
        ({"density": [0.0]}, r"density=0.0 must be in \(0, 1\]"),
        ({"n": [64]}, "n=64 must be at least one block of 128"),
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"kernel": ["sdpa"]}, "kernel='sdpa' must be one of native, gather, flex"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench_kernels.kernels(threads=torch.get_num_threads(), **options)
