"""The figures of `saccade bench flashbias`: complete, consistent, and honest about memory and digits."""

import json
from pathlib import Path

import pytest

from saccade.cli import bench_flashbias as bench
from saccade.cli.bench_flashbias import Row, exactness, run


def row(n: int, ratio: float, part: str = "forward") -> Row:
    return Row(
        prior="alibi", dtype="float32", n=n, part=part, plain_ms=1, dense_ms=ratio, factors_ms=1, dense_spread_ms=0,
        factors_spread_ms=0, time_ratio=ratio, dense_bytes=2, factors_bytes=1, memory_ratio=2,
    )  # fmt: skip


def test_rows_cover_every_setting_and_memory_follows_the_bias() -> None:
    told: list[str] = []
    figures = run(
        sizes=(64, 512), dtypes=("float32",), heads=2, channels=8, repeats=1, told=lambda *at: told.append(at[2])
    )
    rows = figures["rows"]
    assert [(r["prior"], r["n"], r["part"]) for r in rows] == [
        (prior, n, part) for prior in ("alibi", "distance") for n in (64, 512) for part in ("forward", "backward")
    ]
    assert all(r["time_ratio"] == pytest.approx(r["dense_ms"] / r["factors_ms"]) and r["plain_ms"] > 0 for r in rows)
    long = [r for r in rows if r["n"] == 512 and r["part"] == "forward"]
    assert all(r["dense_bytes"] >= 2 * 512**2 * 4 and r["memory_ratio"] > 4 for r in long)
    assert len(told) == 4 and json.dumps(figures)


def test_exact_cases_agree_with_dense_attention_to_the_last_digits() -> None:
    found = exactness()
    assert {name: case["rank"] for name, case in found.items()} == {
        "alibi": 2, "alibi, by key": 1, "distance, 3d": 9, "distance, d + 2": 5, "distance, d + 1": 4, "cosine": 2,
    }  # fmt: skip
    assert all(case["output_gap"] < 1e-12 and case["gradient_gap"] < 1e-11 for case in found.values())


def test_the_crossover_is_where_winning_begins_for_good() -> None:
    assert bench._crossovers([row(1, 2.0), row(2, 0.5), row(4, 1.5), row(8, 2.0)]) == {"alibi float32 forward": 4}
    assert bench._crossovers([row(1, 2.0), row(2, 0.5)]) == {"alibi float32 forward": None}


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    bench.flashbias(sizes="32", dtypes="float32", priors="alibi", heads=1, channels=8, repeats=1, json_file=path)
    assert "factors ms" in capsys.readouterr().out
    assert len(json.loads(path.read_text())["rows"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtypes": ("int8",)}, "dtypes=int8 must be among"), ({"priors": ("swin",)}, "priors=swin must be among alibi")],
)
def test_unknown_names_are_told(options: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**options)  # type: ignore[arg-type]
