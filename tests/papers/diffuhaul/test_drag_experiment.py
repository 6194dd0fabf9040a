"""DiffUHaul's experiment: its cases, its arms, and that its page says what its results say."""

from pathlib import Path

import numpy as np
import pytest

from saccade.data import scenes
from saccade.experiments import Figures
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.diffuhaul import DiffUHaul
from saccade.papers.diffuhaul.drags import WAYS, Dragging, batches, rows
from saccade.papers.diffuhaul.experiment import CLAIMS, EXPERIMENT, ORDER, SECTIONS, Settings, arms, stacked
from saccade.pipelines.shared import shared_pipeline

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_cases_of_a_way_differ_in_colours_and_read_back_as_captioned() -> None:
    found = list(batches(4))
    assert len(found) == len(WAYS) and all(len({case.dragged for case in cases}) > 1 for cases in found)
    case = found[0][0]
    start, end, _ = case.way
    for place in (start, end):
        seen = scenes.parse(case.picture(place)[0])
        assert {(t.colour, t.shape) for t in seen.things} == {case.dragged, case.other}
        assert f"a large {' '.join(case.dragged)} at the {place} and" in case.caption(place)


@pytest.mark.host
def test_a_perfect_drag_scores_as_one_and_words_are_found_in_place() -> None:
    dragging = Dragging(pipe=shared_pipeline("scenes-flux"), steps=1)
    cases = next(batches(2))
    system = dragging.system(cases)
    assert [len(words) for words in system.words] == [2, 2] and system.target_words is not None
    assert system.source[0] != system.target[0] and system.source[1] == system.target[1]
    perfect, idle = (np.concatenate([case.picture(case.way[end]) for case in cases]) for end in (1, 0))
    for row in rows(perfect, cases, system):
        assert row["dragged"] == row["all"] == 1 and row["left"] == 0 and row["kept_psnr"] == 60
    assert all(row["left"] == 1 and row["dragged"] == 0 for row in rows(idle, cases, system))


def test_each_arm_adds_a_step_and_carrying_is_the_last_ones() -> None:
    found = stacked()
    assert list(found)[: len(ORDER)] == list(ORDER)
    assert not any(found["layout alone"][name] for name in ("masked", "share", "schedule", "nearest"))
    assert found["+ nearest"] == {"masked": True, "share": True, "schedule": "t/T", "nearest": True}
    assert found["carried + nearest"] == {**found["+ nearest"], "carry": True}
    every = arms(Settings())
    assert set(every) == {"steps", "schedules", "photos"} and every["schedules"]["1-t/T"]["schedule"] == "1-t/T"
    known = set(DiffUHaul.__dataclass_fields__) | {"buckets", "fresh"}
    assert all(set(options) <= known for table in every.values() for options in table.values())


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page, found = (DOCS / EXPERIMENT.page).read_text(), newest(DOCS / "results", EXPERIMENT.name)
    parts = made(SECTIONS, found, Figures(folder=tmp_path, name=EXPERIMENT.name))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
    assert {claim.verdict(found) for claim in CLAIMS} <= {"confirmed", "refuted", "undecided"}
