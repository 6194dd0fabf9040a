"""LAMIC's experiment: what it measures, and that its page says what its results say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data import scenes
from saccade.experiments import Figures
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.lamic.experiment import CLAIMS, EXPERIMENT, SECTIONS, Settings, arm
from saccade.papers.lamic.figures import STAGES, mask_of, tokens
from saccade.papers.lamic.isolation import CLOSED, FIRST, SECOND, UNMASKED, Forward
from saccade.papers.lamic.places import SIDE, Easel, Pair, pairs, scored
from tests.tiny_flux import tiny_flux

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAIR = Pair(left=("red", "circle"), right=("blue", "square"))


def drawn(*things: tuple[str, str, float], ground: str = "gray") -> np.ndarray:
    made = (scenes.Thing(colour=c, shape=s, size="large", x=x, y=0.5) for c, s, x in things)
    return scenes.render(scenes.Scene(things=tuple(made), background=ground), SIDE).astype(np.float32)[None] / 255


def test_pairs_differ_in_colour_and_shape_and_have_words_at_the_same_places() -> None:
    found = pairs(12)
    assert len(set(found)) == 12
    assert all(p.left[0] != p.right[0] and p.left[1] != p.right[1] for p in found)
    assert {tuple(len(text.split()) for text in p.texts) for p in found} == {(5, 4)}


def test_a_picture_as_asked_one_with_changed_places_and_one_with_swapped_colours() -> None:
    right = scored(drawn(("red", "circle", 0.25), ("blue", "square", 0.75)), PAIR)
    assert (right["inclusion"], right["both"], right["swapped"]) == (100, 1, 0) and right["seam"] < 0.01
    wrong = scored(drawn(("red", "circle", 0.75), ("blue", "square", 0.25)), PAIR)
    assert (wrong["inclusion"], wrong["filling"], wrong["both"]) == (0, 0, 1)
    mixed = scored(drawn(("blue", "circle", 0.25), ("red", "square", 0.75)), PAIR)
    assert (mixed["inclusion"], mixed["both"], mixed["swapped"]) == (0, 0, 1)


def test_two_backgrounds_are_a_seam() -> None:
    halves = np.where(np.arange(SIDE)[None, None, :, None] < SIDE // 2, drawn(), drawn(ground="white"))
    assert scored(halves.astype(np.float32), PAIR)["seam"] > 0.2


@pytest.mark.host
def test_isolation_falls_from_arm_to_arm_to_nothing() -> None:
    changes = {row["arm"]: row["change"] for row in Forward(seed=0).rows()}
    assert list(changes) == [UNMASKED, SECOND, FIRST, CLOSED] and changes[CLOSED] == 0
    assert all(changes[name] > 0 for name in (UNMASKED, SECOND, FIRST))


@pytest.mark.host
def test_pairs_are_drawn_side_by_side_under_one_mask() -> None:
    easel = Easel(pipe=tiny_flux(), pairs=pairs(2), steps=2)
    plain, masked = easel.draw(), easel.draw(easel.lamic(1.0))
    assert plain.shape == masked.shape == (2, SIDE, SIDE, 3) and not np.array_equal(plain, masked)
    assert [entity.words for entity in easel.lamic(0.0).entities] == [(0, 1, 2, 3, 4), (5, 6, 7, 8)]
    assert easel.lamic(0.0).interaction == (9, 10, 11, 12)


def test_the_picture_of_the_masks_shows_both_stages() -> None:
    one, then = (mask_of(stage).materialize(tokens(), tokens()) for stage in STAGES)
    assert (one <= then).all() and not torch.equal(one, then)
    assert mask_of(1).members(tokens()).sum(0).tolist() == [1] * tokens().n


def test_arms_are_named_by_their_first_stage() -> None:
    assert [arm(share) for share in Settings().first_stages[:3]] == [
        "stage 2 alone",
        "first stage 0.05",
        "first stage 0.2",
    ]


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page, found = (DOCS / EXPERIMENT.page).read_text(), newest(DOCS / "results", "lamic")
    parts = made(SECTIONS, found, Figures(folder=tmp_path, name="lamic"))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
    assert {claim.verdict(found) for claim in CLAIMS} <= {"confirmed", "refuted", "undecided"}
