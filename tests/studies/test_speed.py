"""The study of speed: what its cases are, that its rows follow from one another, and where its records are filed."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from saccade import ops
from saccade.core.layout import Layout
from saccade.core.places import Disc
from saccade.experiments import Figures, Results
from saccade.ops.block_cost import BlockCost
from saccade.ops.chunked import chunked
from saccade.ops.orders import Bars
from saccade.ops.pattern import pattern
from saccade.studies.speed import EXPERIMENT, kernel_table, pattern_table, peak_table, selector_table, share_of_peak
from saccade.studies.speed.kernels import KernelCases, disc
from saccade.studies.speed.overhead import measure
from saccade.studies.speed.patterns import SIZES, PatternCases, pattern_row, selector_row
from tests.ops.cases import error, operands


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_the_disc_is_the_one_nearest_the_density(share: float) -> None:
    layout, mask = disc(1024, share)
    assert isinstance(layout, Layout)
    assert mask.bind(layout, layout).density() == pytest.approx(share, rel=0.1)


def test_the_written_out_baseline_is_attention() -> None:
    q, k, v = operands(1, 2, 2, 300, 300, dtype=torch.float64)
    true = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert error(chunked(q, k, v), true) < 1e-12


def test_every_arm_of_a_case_is_a_row() -> None:
    cases = KernelCases(n=(600,), density=(0.25,), dtype=("float32",), d=16, rounds=1, kernels=("gather",)).cases()
    assert list(cases) == ["600 random 128 float32 0.25", "600 random 64 float32 0.25", "600 disc float32 0.25"]
    for measure_case in cases.values():
        *dense, sparse = measure_case()
        assert [row["kernel"] for row in (*dense, sparse)] == ["sdpa", "chunked", "gather"]
        assert sparse["speedup"] == pytest.approx(min(row["median_ms"] for row in dense) / sparse["median_ms"])
        assert sparse["efficiency"] == pytest.approx(sparse["speedup"] * sparse["density"])


def test_the_peak_is_measured_beside_full_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_of_peak, "ROUNDS", 1000)
    if reason := ops.warm():
        pytest.skip(reason)
    (row,) = share_of_peak.peak_rows(300, 1)
    assert row["n"] == 256 and row["reached"] > 0 and row["peak_gmacs"] > 0 and row["refused"] is None


@pytest.mark.host
def test_attached_and_plain_are_timed_in_pairs() -> None:
    row = measure("small", {"text": 4, "height": 2, "width": 2, "heads": 1, "layers": 1}, 2, 3)
    assert (row.size, row.tokens, row.repeats) == ("small", 8, 3)
    assert 0 < row.ratio_low <= row.ratio <= row.ratio_high


CASE = {"n": 512, "dtype": "float32", "pattern": "disc", "density": 0.5, "area": 0.6, "spread_ms": 0.25}
DENSE = {"speedup": None, "efficiency": None}
ROWS = [
    CASE | DENSE | {"kernel": "sdpa", "median_ms": 3.0},
    CASE | DENSE | {"kernel": "chunked", "median_ms": 2.0},
    CASE | DENSE | {"kernel": "chunked", "median_ms": 1.0, "pattern": "random"},
    CASE | {"kernel": "native", "median_ms": 0.5, "speedup": 4.0, "efficiency": 2.0},
]


PEAK = [
    {"n": 4096, "peak_gmacs": 150.2, "reached": 0.756, "refused": None},
    {"n": 512, "peak_gmacs": None, "reached": None, "refused": "no compiler"},
]


def record(date: str) -> Results:
    """Figures of a machine, made up."""
    settings = {"kernels": {"heads": 2, "d": 64}, "repeats": 3}
    return Results(
        device="Some CPU", date=date, versions={}, settings=settings, tables={"kernels": ROWS, "overhead": []}
    )


def test_the_faster_dense_kernel_of_the_same_case_stands_beside_a_sparse_one(tmp_path: Path) -> None:
    last = kernel_table(record("2026-01-01"), Figures(folder=tmp_path, name="speed")).splitlines()[-1]
    assert last == "| 512 | float32 | disc | 0.50 | 0.60 | 2.0 [0.2] (chunked) | native | 0.5 [0.2] | 4.00x | 2.00 |"


def test_blocks_of_different_size_are_different_cases(tmp_path: Path) -> None:
    results = record("2026-01-01")
    rows = [
        row | {"pattern": "random", "block": size, "refused": None} for size in (128, 64) for row in (ROWS[0], ROWS[3])
    ]
    rows[0]["median_ms"] = 1.0
    results.tables["kernels"] = rows + [rows[0] | {"kernel": "flex", "median_ms": None, "refused": "cold"}]
    *_, large, small = kernel_table(results, Figures(folder=tmp_path, name="speed")).splitlines()
    assert "| random, blocks of 128 | 0.50 | 0.60 | 1.0 [0.2] (sdpa) | native |" in large
    assert "| random, blocks of 64 | 0.50 | 0.60 | 3.0 [0.2] (sdpa) | native |" in small


def test_the_share_of_the_peak_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    results, figures = record("2026-01-01"), Figures(folder=tmp_path, name="speed")
    assert peak_table(results, figures) == "Not measured on this machine."
    results.tables["peak"] = PEAK
    *_, measured, refused = peak_table(results, figures).splitlines()
    assert measured == "| 4,096 | 150 | 76% |" and refused == "| 512 |  | no compiler |"


def test_a_mask_is_a_row_of_what_its_blocks_are_and_take() -> None:
    (row,) = pattern_row("clear", 4096, (BlockCost((128, 128), 1, 1), BlockCost((64, 64), 1, 1)))
    bound = Disc(8).bind(*SIZES[4096][:1] * 2)
    found = pattern(bound, *SIZES[4096][:1] * 2, tuple(row["size"]), Bars(1, 8))
    assert row["size"] == [64, 64] and row["density"] == bound.density()
    assert 1 < row["computed"] <= 1.01 * found.computed / bound.density()
    assert row["blocks"] >= row["mixed"] > 0 and row["cpu_seconds"] > 0


def test_a_selector_is_a_row_of_its_share_of_a_dense_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("saccade.studies.speed.patterns"), "DENSE", 512)
    (row,) = selector_row(4096, 2, 1)
    assert row["share"] == pytest.approx(row["seconds"] / row["dense_seconds"])
    assert row["share_low"] <= row["share"] <= row["share_high"]


def test_unknown_sizes_and_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens=4097 must be one of 4096, 16384"):
        PatternCases(tokens=(4097,))
    with pytest.raises(ValueError, match="mask='cube' must be one of disc, clear"):
        PatternCases(masks=("cube",))


def test_what_is_not_measured_is_said(tmp_path: Path) -> None:
    figures = Figures(folder=tmp_path, name="speed")
    assert pattern_table(record("2026-01-01"), figures) == "Not measured on this machine."
    shown = pattern_table(with_patterns(), figures).splitlines()[-1]
    assert shown == "| ball | 4,096 | 0.1000 | 1.50 | 32 | Bars(t=3, h=3) | 0.25 | 12 |"
    assert selector_table(with_patterns(), figures) == "Not measured on this machine."


def with_patterns() -> Results:
    row = {"kind": "pattern", "mask": "ball", "tokens": 4096, "density": 0.1, "computed": 1.5, "size": [32, 32]}
    row |= {"order": "Bars(t=3, h=3)", "cpu_seconds": 0.25, "extra_bytes": 12_000_000}
    return replace(record("2026-01-01"), tables={"patterns": [row]})


def test_records_are_filed_by_date_and_device(tmp_path: Path) -> None:
    page = tmp_path / EXPERIMENT.page
    page.parent.mkdir()
    page.write_text("".join(f"<!-- figures: {name} -->\n<!-- end -->\n" for name in EXPERIMENT.sections))
    for date in ("2026-01-01", "2026-02-01"):
        EXPERIMENT.publish(record(date), tmp_path)
    names = sorted(path.name for path in (tmp_path / "results" / "speed").iterdir())
    assert names == ["2026-01-01-some-cpu.json", "2026-02-01-some-cpu.json"]
    assert "| 512 | float32 |" in page.read_text()
