"""DreamRelation's experiment: its small model and its clips are what they say, and it runs from end to end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.experiments import Figures
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.dreamrelation.bounces import exemplars
from saccade.papers.dreamrelation.experiment import ARMS, CLAIMS, EXPERIMENT, FULL, NONE, SECTIONS
from saccade.papers.dreamrelation.judging import judge_relation
from saccade.papers.dreamrelation.small_model import BOUNCING, WORDS, SmallVideos, caption_of, embedded, random_video
from saccade.papers.dreamrelation.small_run import LOOKS

pytestmark = pytest.mark.host
DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_words_are_one_hot_beside_the_number_of_their_thing() -> None:
    one = exemplars(1, seed=0, **LOOKS)[0]
    words = embedded(caption_of(one))
    assert words.shape == (6, len(WORDS) + 2) and (words.sum(1) == 2).all()
    found = [[WORDS[int(row[:-2].argmax())] for row in part] for part in words.split(3)]
    assert found == [["red", "circle", BOUNCING], ["blue", "square", BOUNCING]]
    assert words[:3, -2].all() and words[3:, -1].all()


def test_the_first_training_never_shows_the_relation() -> None:
    for i in range(20):
        video = random_video(np.random.default_rng([0, i]), 5)
        assert all("then" not in video.motion_words(k) for k in range(2))


def test_exemplars_are_judged_as_the_relation_at_the_models_size() -> None:
    size = SmallVideos()
    for one in exemplars(6, seed=0, **LOOKS):
        found = judge_relation(size.enlarged(size.exemplar(one)), one)
        assert found.success and found.seen == 1 and found.leaked == 1


def test_clips_have_the_masks_of_their_subjects() -> None:
    run = EXPERIMENT.settings.run
    clips = replace(run, count=2).clips(0)
    assert clips.masks is not None and clips.masks.shape == (2, 2, *clips.latents.shape[2:])
    inside, outside = (
        clips.latents.movedim(1, -1)[keep].mean() for keep in (clips.masks.sum(1) > 0, clips.masks.sum(1) == 0)
    )
    assert inside > outside + 0.3  # black lies at -0.88


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page, found = (DOCS / EXPERIMENT.page).read_text(), newest(DOCS / "results", "dreamrelation")
    parts = made(SECTIONS, found, Figures(folder=tmp_path, name="dreamrelation"))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []


def test_arms_differ_in_what_they_claim() -> None:
    assert ARMS[NONE] is None and {*ARMS} >= {arm for arm in (NONE, FULL)}
    assert len({repr(arm) for arm in ARMS.values()}) == len(ARMS)


@pytest.mark.slow
def test_it_runs_and_fills_its_page(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = EXPERIMENT.run(tmp_path, quick=True)
    assert len(found.rows("relations")) == 2 * len(ARMS) * 2 and len(found.rows("similarity")) == 15
    assert {claim.verdict(found) for claim in CLAIMS} <= {"confirmed", "refuted", "undecided"}
    assert set(SECTIONS) == {"masks", "similarity", "relations", "claims"}
