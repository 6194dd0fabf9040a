"""Rendered relations show what they say, and the judge knows them from other motions."""

import numpy as np
import pytest

from saccade.data.scenes import parse
from saccade.papers.dreamrelation.bounces import EXEMPLAR, bounce, exemplars, unseen
from saccade.papers.dreamrelation.judging import bounces, judge_relation, tracked


@pytest.mark.parametrize("seed", range(4))
def test_the_true_video_is_judged_as_success_and_its_looks_as_leaked(seed: int) -> None:
    for one, leaked in ((exemplars(1, seed=seed)[0], 1.0), (next(unseen(1, seed=seed)), 0.0)):
        found = judge_relation(one.video(), one)
        assert found.success and found.seen == 1 and found.leaked == leaked and found.caption > 0.9


def test_things_meet_in_the_middle_without_touching_and_go_back() -> None:
    for one in exemplars(8, seed=1):
        boxes = [sorted(thing.box for thing in one.at(frame).things) for frame in range(9)]
        gaps = np.array([right[0] - left[2] for left, right in boxes])
        assert gaps.argmin() == 4 and gaps[4] == pytest.approx(0.04) and np.allclose(gaps, gaps[::-1])
        assert one.caption.startswith("a red circle moving ") and one.at(0) == one.scene


def test_masks_are_of_the_subjects_in_the_order_of_the_caption() -> None:
    one = exemplars(1, seed=2)[0]
    video, masks = one.video(), one.masks()
    for subject, tone in enumerate(([215, 20, 45], [40, 85, 235])):
        inside = video[masks[:, subject].bool().numpy()]
        assert np.median(inside, axis=0).tolist() == tone


def test_unseen_things_share_no_colour_with_the_exemplars() -> None:
    own = {colour for colour, _ in EXEMPLAR}
    for one in unseen(20, seed=0):
        colours, shapes = ({getattr(t, name) for t in one.scene.things} for name in ("colour", "shape"))
        assert not colours & own and len(colours) == 2 and shapes != {"circle", "square"} and len(shapes) == 2


def path(*distances: float, side: float = 1.0) -> np.ndarray:
    """Two things that many apart along x."""
    found = np.zeros((len(distances), 2, 2))
    found[:, 1, 0] = side * np.array(distances)
    return found


@pytest.mark.parametrize(
    ("way", "shown"),
    [
        (path(0.6, 0.3, 0.1, 0.3, 0.6), True),
        (path(0.6, 0.3, 0.1, 0.3, 0.6, side=-1), True),
        (path(0.6, 0.5, 0.4, 0.3, 0.2), False),  # they come nearer and stay
        (path(0.2, 0.3, 0.4, 0.5, 0.6), False),
        (path(0.6, 0.2, -0.2, -0.4, -0.6), False),  # they pass each other
        (path(0.6, 0.58, 0.55, 0.58, 0.6), False),  # too little to tell
    ],
)
def test_only_falling_and_rising_distances_on_own_sides_count(way: np.ndarray, shown: bool) -> None:
    assert bounces(way) is shown


def test_frames_that_lack_a_thing_are_passed_over_if_few() -> None:
    way = path(0.6, 0.4, 0.2, 0.1, 0.2, 0.4, 0.6)
    way[[1, 5], 0] = np.nan
    assert bounces(way)
    way[[0, 2], 1] = np.nan
    assert not bounces(way)


def test_the_largest_thing_of_a_colour_is_followed() -> None:
    one = bounce(np.random.default_rng(0), (("green", "cross"), ("cyan", "triangle")), sizes=("large",))
    found = tracked([parse(frame) for frame in one.video()], ["green", "cyan", "red"])
    wanted = np.array([[(t.x, t.y) for t in one.at(i).things] for i in range(9)])
    assert np.abs(found[:, :2] - wanted).max() < 0.02 and np.isnan(found[:, 2]).all()
