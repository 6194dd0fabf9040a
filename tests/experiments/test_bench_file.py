"""What a bench's file promises: kept after every case, gone on with, refused where it is another's, ended in time."""

import json
from pathlib import Path

import pytest

from saccade.experiments import BenchFile, Row
from saccade.experiments.bench_file import Case

SETTINGS = {"rounds": 3, "sizes": [1, 2]}


def cases(measured: list[str], fails: str = "") -> dict[str, Case]:
    def case(name: str) -> list[Row]:
        if name == fails:
            raise KeyboardInterrupt
        measured.append(name)
        return [{"ms": 1.5}]

    return {name: lambda name=name: case(name) for name in "abc"}


def test_what_is_cut_short_is_gone_on_with(tmp_path: Path) -> None:
    file, measured = tmp_path / "bench.json", []
    with pytest.raises(KeyboardInterrupt):
        BenchFile(file=file, settings=SETTINGS).run(cases(measured, fails="b"))
    kept = json.loads(file.read_text())
    assert (kept["rows"], kept["left"], kept["settings"]) == ([{"case": "a", "ms": 1.5}], ["b", "c"], SETTINGS)
    again = BenchFile(file=file, settings=SETTINGS)
    assert [row["case"] for row in again.run(cases(measured))] == ["a", "b", "c"] == measured
    assert json.loads(file.read_text())["left"] == [] and again.note() is None


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    file, measured = tmp_path / "bench.json", []
    broken = {**cases([]), "b": lambda: [{"ms": 2.0}, {"error": "no room"}]}
    assert len(BenchFile(file=file, settings=SETTINGS).run(broken)) == 4
    again = BenchFile(file=file, settings=SETTINGS).run(cases(measured))
    assert measured == ["b"] and sorted(row["case"] for row in again) == ["a", "b", "c"]
    assert not any("error" in row for row in again)


def test_no_case_begins_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("saccade.experiments.bench_file.time.monotonic", lambda: next(clock))
    bench, reported = BenchFile(file=None, settings=SETTINGS, seconds=15), []
    assert [row["case"] for row in bench.run(cases([]), lambda *step: reported.append(step))] == ["a"]
    assert reported == [(0, 3, "a")]
    assert bench.note() == "no time for b, c; give it more time, or a file to go on with"


def test_a_file_of_another_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    BenchFile(file=file, settings=SETTINGS).run(cases([]))
    with pytest.raises(ValueError, match=r"another run \(settings: {'rounds': 3, .*} there, {'rounds': 4, .*} here\)"):
        BenchFile(file=file, settings=SETTINGS | {"rounds": 4})
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"bench.json' is not a bench's; name another, or remove it"):
        BenchFile(file=file, settings=SETTINGS)
    with pytest.raises(ValueError, match="seconds=0 must be positive"):
        BenchFile(file=None, settings=SETTINGS, seconds=0)
