"""What the harness promises: parts by seed, nothing done twice, other settings refused, the device named truly."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from saccade.experiments import Bench, Experiment, Row
from saccade.experiments.results import MANY, Results, rounded
from saccade.metrics.machine import device_name


@dataclass(frozen=True, kw_only=True)
class Settings:
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 3


def counted(calls: list[int], **options: Any) -> Experiment[Settings]:
    made = Experiment(name="made", settings=Settings(), quick=Settings(seeds=(0,), steps=1), hours=0, **options)

    @made.part(per_seed=True)
    def rows(bench: Bench[Settings]) -> Iterable[Row]:
        calls.append(bench.seed)
        yield {"arm": "one", "value": bench.settings.steps / 3}

    return made


def test_a_part_runs_once_a_seed_and_its_rows_bear_it(tmp_path: Path) -> None:
    found = counted([]).run(tmp_path)
    assert found.tables == {"rows": [{"seed": seed, "arm": "one", "value": 1.0} for seed in (0, 1)]}


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    calls: list[int] = []
    first = counted(calls).run(tmp_path)
    (tmp_path / "rows-1.json").unlink()  # as if killed before the second seed
    assert counted(calls).run(tmp_path).tables == first.tables
    assert calls == [0, 1, 1]


def test_rows_of_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    counted([]).run(tmp_path)
    with pytest.raises(ValueError, match=r"holds runs of other settings \(.*steps: 3 there, 1 here"):
        counted([]).run(tmp_path, quick=True)
    with pytest.raises(ValueError, match="only='columns' is no part; choose from rows"):
        counted([]).run(tmp_path, only=("columns",))


def test_the_device_is_the_one_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.experiments.experiment.best_device", lambda: "cuda")
    monkeypatch.setattr("saccade.experiments.experiment.device_name", lambda device: f"named {device}")
    assert counted([]).run(tmp_path / "one").device == "named cpu"
    assert counted([], device="best").run(tmp_path / "two").device == "named cuda"


def test_results_come_back_as_they_were_kept(tmp_path: Path) -> None:
    found = counted([]).run(tmp_path / "work")
    found.tables["rows"][0]["value"] = 0.123456789
    found.save(tmp_path / "kept.json")
    kept = Results.load(tmp_path / "kept.json")
    assert kept.tables == rounded(found.tables) and kept.tables["rows"][0]["value"] == 0.123457
    assert (kept.device, kept.settings) == (device_name("cpu"), {"seeds": [0, 1], "steps": 3})


def test_many_rows_are_kept_by_columns_and_come_back_as_rows(tmp_path: Path) -> None:
    values = (0.5, None, [[1, 2]], "text")
    rows: list[Row] = [{"arm": f"arm {i % 3}", "case": i // 3, "value": values[i % 4]} for i in range(MANY)]
    rows.append({"arm": "arm 0", "case": 9, "more": 1})
    found = Results(device="d", date="", versions={}, tables={"many": rows, "few": rows[:-2]})
    found.save(tmp_path / "kept.json")
    kept = Results.load(tmp_path / "kept.json")
    assert kept.tables["few"] == found.tables["few"]
    assert kept.tables["many"] == [dict.fromkeys(("arm", "case", "value", "more")) | row for row in rows]
    text = json.loads((tmp_path / "kept.json").read_text())["tables"]
    assert "rows" in text["few"] and text["many"]["values"][0]["of"] == ["arm 0", "arm 1", "arm 2"]
    assert len(json.dumps(text["many"])) < len(json.dumps(text["few"])) / 1.5
