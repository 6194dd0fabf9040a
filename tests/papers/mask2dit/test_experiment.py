"""Mask2DiT's experiment: what it measures, and that its page says what its results say."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.experiments import Figures
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.mask2dit import exact
from saccade.papers.mask2dit.experiment import CLAIMS, EXPERIMENT, SECTIONS, SHARES
from saccade.papers.mask2dit.recipe import SmallScenes
from saccade.papers.mask2dit.small_run import look, seen
from saccade.papers.mask2dit.stories import Stories
from saccade.papers.mask2dit.timing import scene_call, timed

DOCS = Path(__file__).resolve().parents[3] / "docs"
MODEL = SmallScenes(close=True)


def means(pixels: Tensor, held: Stories, **options: Any) -> dict[str, float]:
    """Of all stories."""
    rows = seen(pixels.flatten(1, 2), held, MODEL, **options)
    assert len(rows) == len(held.shots)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def test_rendered_stories_are_read_without_fault() -> None:
    held = MODEL.stories(12, shots=2, seed=7)
    found = means(held.pixels, held)
    assert (found["background"], found["leak"], found["same"]) == (1, 0, 1) and found["apart"] < 0.02
    for shots, clips in zip(held.shots, held.pixels, strict=True):
        scene = shots[0].scene
        assert look(clips[0]) == (scene.background, scene.things[0].colour)


def test_changed_places_are_leaks_and_an_empty_clip_shows_nothing() -> None:
    held = MODEL.stories(6, shots=2, seed=7)
    found = means(held.pixels.flip(1), held)
    assert (found["background"], found["leak"], found["same"]) == (0, 1, 1)
    last = means(torch.cat((held.pixels[:, 1:], held.pixels[:, 1:]), dim=1), held, last=True)
    assert (last["background"], last["leak"]) == (1, 0)
    empty = torch.full((2, 3, 16, 16), 0.9)
    assert look(empty) == ("white", None)
    assert means(empty.expand(6, 2, -1, -1, -1, -1), held)["same"] == 0
    other = held.pixels.clone()
    other[:, 1] = held.pixels.roll(1, 0)[:, 1]
    assert means(other, held)["same"] < 1


@pytest.mark.host
def test_checks_are_exact() -> None:
    found = {row["check"]: row["change"] for row in exact.Forward(seed=0).rows()}
    assert found[exact.ONE] == found[exact.KNOWN] == 0 and found[exact.RUNS] < 1e-12 and found[exact.TIME] < 1e-12
    assert found[exact.TWO] > 1e-6 and found[exact.CLIP] > 1e-4


def test_times_are_of_equal_work() -> None:
    (row,) = timed(2, rounds=1)
    layout = scene_call(2).layout_q
    assert row["tokens"] == layout.n and row["map"] == 4 * layout.n**2 / 1e6 and row["chosen"] == "spans"
    assert row["scores"] == 1 - 2 * (64**2 + 2 * 64 * 512) / layout.n**2


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page, found = (DOCS / EXPERIMENT.page).read_text(), newest(DOCS / "results", "mask2dit")
    parts = made(SECTIONS, found, Figures(folder=tmp_path, name="mask2dit"))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
    assert {claim.verdict(found) for claim in CLAIMS} <= {"confirmed", "refuted", "undecided"}
    assert len(SHARES) == 4
