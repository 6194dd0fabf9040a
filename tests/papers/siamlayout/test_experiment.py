"""SiamLayout's experiment: the page holds every figure, claims are decided picture by picture, and it runs."""

from pathlib import Path
from typing import Any

import pytest

from saccade.experiments import Bench, Figures, Results
from saccade.experiments.page import made
from saccade.papers.siamlayout.experiment import CLAIMS, EXPERIMENT, Settings, trained
from saccade.papers.siamlayout.small_run import ARMS, BASE, QUICK


def results() -> Results:
    thing = [{"colour": "red", "box": [0.1, 0.1, 0.3, 0.3]}, {"colour": None, "box": [0.5, 0.5, 0.7, 0.7]}]
    arms: list[dict[str, Any]] = []
    for i, arm in enumerate((BASE, *ARMS)):
        value = (0.1, 0.8, 0.5, 0.4)[i]
        for picture in range(4):
            shown = {"seen": thing, "asked": thing[:1]} if picture < 2 else {}
            row = {"iou": value + picture / 100, "centre": 0.2, "there": value, "placed": value, "colour": 0.123}
            arms.append({"arm": arm, "picture": picture, "seed": 0, **row, **shown})
    fractions = [
        {**row, "arm": f"{until:g}", "until": until, "iou": row["iou"] * until}
        for row in arms if row["arm"] == "siamese" for until in (0.3, 1.0)
    ]  # fmt: skip
    shares = [
        {"arm": arm, "picture": picture, "text": text + picture / 1000, "layout": 0.2}
        for arm, text in (("siamese", 0.4), ("m3", 0.3)) for picture in range(4)
    ]  # fmt: skip
    small = {"steps": 7, "batch": 3, "pictures": 4, "sampling": 5}
    return Results(device="any", date="2026-01-01", versions={"torch": "2"}, settings={"seeds": [0], "small": small},
                   tables={"arms": arms, "fractions": fractions, "shares": shares})  # fmt: skip


def test_the_page_holds_every_figure(tmp_path: Path) -> None:
    text = "\n".join(made(EXPERIMENT.sections, results(), Figures(folder=tmp_path, name="siamlayout")).values())
    for value in ("7 steps of 3 scenes", "0.815", "| m3 |", "| 0.3 |", "confirmed"):
        assert value in text
    assert {file.name for file in tmp_path.glob("*.svg")} == {"siamlayout-boxes.svg", "siamlayout-fractions.svg"}


def test_claims_are_decided_picture_by_picture() -> None:
    assert [claim.verdict(results()) for claim in CLAIMS] == ["confirmed"] * 6 + ["refuted"]


@pytest.mark.slow
@pytest.mark.host
def test_it_runs_in_its_quick_form(tmp_path: Path) -> None:
    rows = list(trained(Bench(settings=Settings(small=QUICK), work=tmp_path)))
    count = {(row["table"], row["arm"]) for row in rows}
    assert count == {("arms", arm) for arm in (BASE, *ARMS)} | {("fractions", "0.3"), ("fractions", "1")}
    assert len(rows) == 2 * 6 and all(0 <= row["iou"] <= 1 for row in rows)
    paid = list(QUICK.shares(0, tmp_path))
    assert [row["layout"] > 0 for row in paid] == [False, False, True, True]
    assert all(0 < row["text"] + row["layout"] < 1 for row in paid)
