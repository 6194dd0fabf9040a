"""`saccade bench overhead`: what it measures, and that it says what it needs."""

import json
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saccade.cli import app
from saccade.studies.speed.overhead import SIZES, measure

pytestmark = pytest.mark.host


@pytest.mark.timing
def test_each_size_is_a_row_of_paired_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = {"text": 4, "height": 2, "width": 2, "heads": 1, "layers": 1}
    monkeypatch.setattr(import_module("saccade.studies.speed.overhead"), "SIZES", {"small": (small, 2)})
    result = CliRunner().invoke(app, ["bench", "overhead", "--repeats", "3", "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert (row["size"], row["tokens"], row["repeats"]) == ("small", 8, 3)
    assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    assert row["ratio"] == pytest.approx(row["attached_ms"] / row["plain_ms"], rel=1.0)


def test_one_pair_is_too_few() -> None:
    with pytest.raises(ValueError, match="repeats=1 must be at least 2, for a median with quartiles"):
        measure("tiny", *SIZES["tiny"], repeats=1)
