"""Videos: straight ways with turns, captions that hold over time, verdicts that see when they do not."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.scenes import (
    Motion,
    Scene,
    Split,
    Thing,
    Video,
    VideoPrompt,
    describe_video,
    judge_video,
    masks,
    render,
    render_video,
    sample_video,
    split_of,
    video_masks,
    vocabulary,
)
from saccade.data.scenes.video_verdict import read_motion
from saccade.data.scenes.words import MAX_WORDS, holds

seeds = st.integers(0, 2**32 - 1)


def video_of(*ways: tuple[Thing, Motion], frames: int = 16) -> Video:
    scene = Scene(things=tuple(thing for thing, _ in ways), background="black")
    return Video(scene=scene, motions=tuple(motion for _, motion in ways), frames=frames)


def thing(*, colour: str = "red", shape: str = "circle", x: float = 0.5, y: float = 0.5) -> Thing:
    return Thing(colour=colour, shape=shape, size="small", x=x, y=y)


RIGHT = Motion(direction="right", travel=0.6)
STILL = Motion(direction="still")
PASSING = video_of((thing(x=0.2, y=0.2), RIGHT), (thing(colour="blue", shape="square"), STILL))


@given(seed=seeds, split=st.sampled_from(["train", "held-out"]))
def test_the_seed_determines_video_and_caption(seed: int, split: Split) -> None:
    first, second = (np.random.default_rng(seed) for _ in range(2))
    a, b = sample_video(first, split=split), sample_video(second, split=split)
    assert a == b and describe_video(a, first) == describe_video(b, second)
    assert split_of(a.scene) == split


@given(seed=seeds)
def test_things_stay_inside_and_never_touch(seed: int) -> None:
    video = sample_video(np.random.default_rng(seed))
    boxes = video.boxes()
    assert boxes.min() >= -1e-9 and boxes.max() <= 1 + 1e-9
    for frame in boxes:
        assert all(max(*(b[:2] - a[2:]), *(a[:2] - b[2:])) >= 0.03 for a, b in combinations(frame, 2))


@given(seed=seeds)
def test_speed_is_constant_but_at_turns(seed: int) -> None:
    video = sample_video(np.random.default_rng(seed), frames=20)
    for i, motion in enumerate(video.motions):
        steps = np.abs(np.diff([(s.things[i].x, s.things[i].y) for s in video], axis=0)).sum(1)
        slower = np.count_nonzero(~np.isclose(steps, motion.travel / 19))
        assert slower <= ("then" in video.motion_words(i)) and steps.max() <= motion.travel / 19 + 1e-9


def test_frames_and_masks_are_those_of_each_scene() -> None:
    assert PASSING.at(0) == PASSING.scene and [*PASSING][-1].things[0].x == pytest.approx(0.8)
    pictures, owned = render_video(PASSING, 64), video_masks(PASSING, 64)
    assert pictures.shape == (16, 64, 64, 3) and owned.shape == (16, 2, 64, 64)
    assert all(np.array_equal(pictures[t], render(PASSING.at(t))) for t in (0, 7, 15))
    assert all(np.array_equal(owned[t], masks(PASSING.at(t))) for t in (0, 7, 15))


def test_a_thing_turns_back_at_the_edge_it_meets() -> None:
    video = video_of((thing(x=0.5), Motion(direction="right", travel=0.6)), frames=601)
    x = np.array([scene.things[0].x for scene in video])
    assert x.max() == pytest.approx(0.91) and x[-1] == pytest.approx(0.91 - (0.6 - 0.41))
    assert video.motion_words(0) == "moving right then left"


@settings(max_examples=12)
@given(seed=seeds, split=st.sampled_from(["train", "held-out"]), frames=st.sampled_from([4, 8, 16]))
def test_a_true_caption_is_judged_all_right(seed: int, split: Split, frames: int) -> None:
    rng = np.random.default_rng(seed)
    video = sample_video(rng, frames=frames, split=split)
    assert judge_video(render_video(video), describe_video(video, rng)).all


@given(seed=seeds)
def test_captions_are_true_short_and_of_known_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    video = sample_video(rng)
    prompt = describe_video(video, rng)
    words = prompt.text.split()
    assert len(words) <= MAX_WORDS and set(words) <= set(vocabulary())
    assert all(motion in prompt.text for motion in prompt.motions)
    assert prompt.motions == tuple(video.motion_words(i) for i in range(len(video.motions)))
    for part, scene in ((prompt.start, video.at(0)), (prompt.end, video.at(video.frames - 1))):
        for i, relation, j in part.relations:
            a, b = scene.things[i], scene.things[j]
            assert relation in prompt.text and holds(relation, (a.x, a.y), (b.x, b.y))
    assert all(want.place in (None, t.place) for want, t in zip(prompt.start.wants, video.scene.things, strict=True))


def test_captions_tell_how_relations_change() -> None:
    texts = {describe_video(PASSING, np.random.default_rng(seed)).text for seed in range(1500)}
    assert "a red circle moving right starts left of a blue square staying still and ends right of it" in texts
    assert "a red circle moving right and a blue square staying still" in texts


def caption(video: Video) -> VideoPrompt:
    """A caption with a relation at both ends."""
    drawn = (describe_video(video, np.random.default_rng(seed)) for seed in range(99))
    return next(prompt for prompt in drawn if prompt.start.relations and prompt.start.relations != prompt.end.relations)


def test_a_video_played_backwards_breaks_motion_and_relations() -> None:
    prompt = caption(PASSING)
    forward, backward = (judge_video(render_video(PASSING)[::order], prompt) for order in (1, -1))
    assert forward.all and forward.motion == 1
    assert backward.motion == 0.5 and backward.steady == 1 and not backward.all
    assert backward.start.relation == 0 or backward.end.relation == 0


def test_a_thing_that_vanishes_for_a_frame_is_noticed() -> None:
    pictures = render_video(PASSING)
    pictures[5] = render(replace(PASSING.at(5), things=PASSING.at(5).things[1:]))
    verdict = judge_video(pictures, caption(PASSING))
    assert verdict.steady == 15 / 16 and verdict.motion == 0.5 and not verdict.all
    assert verdict.start.all and verdict.end.all


def test_a_thing_that_comes_and_goes_is_noticed() -> None:
    pictures = render_video(PASSING)
    guest = thing(colour="green", shape="cross", x=0.2, y=0.8)
    pictures[5] = render(replace(PASSING.at(5), things=(*PASSING.at(5).things, guest)))
    verdict = judge_video(pictures, caption(PASSING))
    assert verdict.steady == 15 / 16 and verdict.motion == 1 and verdict.start.all and verdict.end.all
    assert not verdict.all


def test_a_thing_that_changes_colour_on_the_way_is_noticed() -> None:
    pictures = render_video(PASSING)
    for t in range(4, 12):
        first, second = PASSING.at(t).things
        pictures[t] = render(replace(PASSING.at(t), things=(replace(first, colour="green"), second)))
    verdict = judge_video(pictures, caption(PASSING))
    assert verdict.steady == 0.5 and not verdict.all


def way(*x: float) -> np.ndarray:
    return np.stack([np.array(x), np.full(len(x), 0.5)], axis=1)


@pytest.mark.parametrize(
    ("x", "name"),
    [
        ((0.5, 0.5, 0.51, 0.5), "staying still"),
        ((0.2, 0.3, 0.5, 0.8), "moving right"),
        ((0.8, 0.5, 0.5, 0.2), "moving left"),
        ((0.5, 0.7, 0.9, 0.6), "moving right then left"),
        ((0.5, 0.65, 0.3, 0.1), "moving right then left"),
        ((0.2, 0.5, 0.2, 0.5), None),
        ((0.2, 0.5, 0.43, 0.43), None),
    ],
)
def test_ways_are_read_in_words(x: tuple[float, ...], name: str | None) -> None:
    assert read_motion(way(*x)) == name
    upright = {"right": "down", "left": "up"}
    turned = name and " ".join(upright.get(word, word) for word in name.split())
    assert read_motion(way(*x)[:, ::-1]) == turned


def test_a_diagonal_way_has_no_word() -> None:
    assert read_motion(np.linspace((0.2, 0.2), (0.6, 0.6), 9)) is None


def test_wrong_videos_are_refused() -> None:
    with pytest.raises(ValueError, match="direction='north' is unknown; choose one of still, left"):
        Motion(direction="north", travel=0.3)
    with pytest.raises(ValueError, match="travel=0.0 must be above 0 for what moves"):
        Motion(direction="left")
    with pytest.raises(ValueError, match="travel=0.3 must be above 0 for what moves and 0 for what is still"):
        Motion(direction="still", travel=0.3)
    with pytest.raises(ValueError, match="0 motions for 2 things"):
        replace(PASSING, motions=())
    with pytest.raises(ValueError, match="frames=1 must be at least 2"):
        replace(PASSING, frames=1)
    with pytest.raises(ValueError, match="frame=16 must be 0 to 15"):
        PASSING.at(16)
    with pytest.raises(ValueError, match="1 frames are no video"):
        judge_video(render_video(PASSING)[:1], caption(PASSING))
    with pytest.raises(ValueError, match="leaves nothing to describe"):
        describe_video(video_of(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("x", "travel", "frames"),
    [(0.5, 0.1, 16), (0.5, 0.45, 16), (0.85, 0.4, 16), (0.5, 1.6, 16), (0.5, 0.6, 4), (0.91, 0.4, 16)],
    ids=["too short", "short after", "short before", "two turns", "few frames", "at the wall"],
)
def test_a_way_without_words_is_refused(x: float, travel: float, frames: int) -> None:
    video = video_of((thing(x=x), Motion(direction="right", travel=travel)), frames=frames)
    with pytest.raises(ValueError, match="motion 0 .* has no words: it must cover 0.15 of the side"):
        describe_video(video, np.random.default_rng(0))
