"""Stories: one thing changes, the same from the same seed, judged segment by segment."""

import numpy as np
import pytest

from saccade.data.scenes import (
    Motion,
    Scene,
    Thing,
    Video,
    judge_story,
    render_video,
    stories,
    vocabulary,
)
from saccade.data.scenes.story import WORDS, Story, story

CHANGES = tuple(WORDS)


def shown(one: Story, number: int) -> np.ndarray:
    """A segment as its caption says."""
    prompt = one.prompts[number]
    want, motion = prompt.start.wants[0], prompt.motions[0]
    direction = "still" if motion == "staying still" else motion.removeprefix("moving ")
    thing = Thing(colour=want.colour, shape=want.shape, size="large", x=0.5, y=0.5)
    scene = Scene(things=(thing,), background=prompt.start.background or "black")
    way = Motion(direction=direction, travel=0.0 if direction == "still" else 0.3)
    return render_video(Video(scene=scene, motions=(way,), frames=5), 48)


@pytest.mark.parametrize("change", CHANGES)
def test_one_thing_changes_and_every_word_stands_where_it_stood(change: str) -> None:
    for one in stories(6, seed=1, segments=3, change=change):  # type: ignore[arg-type]
        words = [text.split() for text in one.texts]
        assert len({len(line) for line in words}) == 1 and len(set(one.texts)) == 3
        kept = [len(set(column)) for column in zip(*words, strict=True)]
        assert sum(n > 1 for n in kept) <= 2 + (change == "colour" or change == "motion")  # a or an, moving or staying
        assert {word for line in words for word in line} <= set(vocabulary())
        assert all(one.word in line for line in words)
        places = {line.index(one.word) for line in words}
        assert len(places) == 1


def test_they_are_the_same_from_the_same_seed() -> None:
    assert stories(5, seed=3) == stories(8, seed=3)[:5]
    assert stories(5, seed=3) != stories(5, seed=4)
    assert {one.change for one in stories(40, seed=0)} == {*CHANGES}
    assert stories(0, seed=0) == []


@pytest.mark.parametrize("change", CHANGES)
def test_segments_are_judged_each_by_its_caption(change: str) -> None:
    (one,) = stories(1, seed=5, change=change)  # type: ignore[arg-type]
    right = [shown(one, i) for i in range(2)]
    assert all(verdict.all for verdict in judge_story([[*video] for video in right], one))
    wrong = judge_story([[*video] for video in right[::-1]], one)
    assert not any(verdict.all for verdict in wrong)


@pytest.mark.bad_input
def test_what_does_not_fit_is_named() -> None:
    rng = np.random.default_rng(0)
    for given, message in (
        ({"segments": 1}, "segments=1 must be a whole number of at least 2"),
        ({"change": "size"}, "change='size' is unknown"),
        ({"segments": 5, "change": "background"}, "segments=5 are more than there are words for a background, 4"),
    ):
        with pytest.raises(ValueError, match=message):
            story(rng, **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n=-1 must be a whole number"):
        stories(-1, seed=0)
    (one,) = stories(1, seed=0)
    with pytest.raises(ValueError, match="1 segments were given for 2 captions"):
        judge_story([[*shown(one, 0)]], one)
