"""In-Context Brush's experiment: what it asks for and measures, and that its page says what its results say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.data import scenes
from saccade.experiments import Figures
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.in_context_brush import InContextBrush
from saccade.papers.in_context_brush.drift import Forward
from saccade.papers.in_context_brush.experiment import CLAIMS, COMBINATIONS, EXPERIMENT, SECTIONS, named, systems
from saccade.papers.in_context_brush.figures import GRID, LAYOUT, TEXT, pair_weights
from saccade.papers.in_context_brush.insertions import GROUND, HALF, SIDE, Case, Studio, cases, scored
from tests.tiny_flux import tiny_flux

DOCS = Path(__file__).resolve().parents[3] / "docs"
SILENT = Case(subject=("red", "circle"), other=("blue", "square"))
COLOURED = Case(subject=("red", "circle"), other=("blue", "square"), colour="green")


def half(colour: str, shape: str = "circle") -> np.ndarray:
    """A lower half with the other thing where it was, and this one in its place."""
    things = [
        scenes.Thing(colour=c, shape=s, size="large", x=x, y=0.25)
        for c, s, x in (("blue", "square", 0.22), (colour, shape, 0.72))
    ]
    picture = scenes.render(scenes.Scene(things=tuple(things), background=GROUND), SIDE)
    return picture[None, :HALF].astype(np.float32) / 255


def test_cases_differ_in_colour_and_shape_and_every_second_caption_names_another_colour() -> None:
    found = cases(24)
    assert len(set(found)) == 24
    assert all(case.subject[0] != case.other[0] and case.subject[1] != case.other[1] for case in found)
    assert [case.colour is None for case in found] == [True, False] * 12
    assert all(case.colour not in (case.subject[0], case.other[0]) for case in found)
    words = set(scenes.vocabulary())
    assert all(word in words for case in found for word in case.caption.split())


def test_a_diptych_shows_the_subject_above_on_white_and_the_other_thing_below() -> None:
    shown = SILENT.diptych
    assert shown.picture.shape == (1, SIDE, SIDE, 3) and (shown.picture[0, 0] == 1).all()
    seen = scenes.parse(shown.picture[0]).things
    assert {(thing.colour, thing.shape) for thing in seen} >= {("blue", "square")}
    assert not shown.mask[:HALF].any() and 0 < shown.mask.mean() < 0.3
    assert np.abs(shown.lower(shown.picture) - half("red"))[0][shown.mask[HALF:] == 0].max() < 0.02


def test_scores_of_what_was_asked_and_of_what_was_not() -> None:
    right = scored(half("red"), SILENT)
    assert right["similarity"] > 99.5 and right["shape"] == 1 and right["caption"] is None
    assert right["background"] < 1e-3
    other = scored(half("cyan", "square"), SILENT)
    assert other["similarity"] < 60 and other["shape"] == 0
    assert scored(half("green"), COLOURED)["caption"] == 1 and scored(half("red"), COLOURED)["caption"] == 0
    assert scored(half("green"), COLOURED)["similarity"] is None
    empty = scored(SILENT.diptych.lower(SILENT.diptych.picture), SILENT)
    assert empty["shape"] == 0 and empty["background"] == 0


def test_arms_are_named_by_their_parts() -> None:
    assert [named(*parts) for parts in COMBINATIONS] == [
        "none", "C figure", "C official", "B", "B + C figure", "B + C official",
    ]  # fmt: skip
    assert systems("", "") == () and systems("B", "") == (InContextBrush(beta=0.0),)
    assert systems("", "C official") == (InContextBrush(alpha_text=0.0, alpha_demo=0.0, compat="official"),)


@pytest.mark.host
def test_cases_are_drawn_at_once_and_kept_by_blending() -> None:
    studio = Studio(pipe=tiny_flux(), cases=[SILENT, COLOURED], steps=1)
    free, kept = (studio.draw(InContextBrush(), blend=blend) for blend in (False, True))
    assert free.shape == kept.shape == (2, HALF, SIDE, 3) and not np.array_equal(free, kept)
    assert [row["case"] for row in studio.rows(kept)] == [0, 1]


@pytest.mark.host
def test_the_released_reweighing_raises_norms_and_nothing_is_one() -> None:
    forward = Forward(Studio(pipe=tiny_flux(), cases=[SILENT], steps=1))

    def found(*stack: Any) -> tuple[list[float], float]:
        rows = list(forward.rows("x", *stack))
        ratios = [row["ratio"] for row in rows if row["table"] == "layers"]
        return ratios, next(row["drift"] for row in rows if row["table"] == "outputs")

    assert found() == ([1.0, 1.0], 0.0)
    figure, official = (found(*systems("", name)) for name in ("C figure", "C official"))
    assert min(official[0]) > 1 and official[1] > figure[1] > 0


def test_the_picture_of_the_weights_is_one_but_for_the_query_on_text_and_demonstration() -> None:
    weights, n = pair_weights("top"), GRID[1] * GRID[2]
    wanted = torch.ones(LAYOUT.n, LAYOUT.n)
    wanted[TEXT + n // 2 :, :TEXT], wanted[TEXT + n // 2 :, TEXT : TEXT + n // 2] = 1.3, 1.6
    torch.testing.assert_close(weights, wanted)


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page, found = (DOCS / EXPERIMENT.page).read_text(), newest(DOCS / "results", EXPERIMENT.name)
    parts = made(SECTIONS, found, Figures(folder=tmp_path, name=EXPERIMENT.name))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
    assert {claim.verdict(found) for claim in CLAIMS} <= {"confirmed", "refuted", "undecided"}
