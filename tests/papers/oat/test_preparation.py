"""Fixations to objects, boxes in reading order, trials of unusual length, sequences to train on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from saccade.papers.oat import leave_out, sort_boxes, split_trials, to_objects, usual_lengths
from saccade.papers.oat.preparation import centres
from saccade.papers.oat.training import padded

BOXES = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30], [4, 4, 40, 40]])


def test_a_fixation_is_on_the_box_it_is_in_else_on_the_nearest() -> None:
    points = np.array([[1, 1], [9, 9], [25, 5], [-50, -50], [35, 35], [-3, 24]])
    assert to_objects(points, BOXES).tolist() == [0, 0, 1, 0, 3, 2]  # (9, 9) is in two: the nearer centre


def test_a_duration_changes_nothing() -> None:
    points = np.random.default_rng(0).uniform(-5, 45, (30, 3))
    assert np.array_equal(to_objects(points, BOXES), to_objects(points[:, :2], BOXES))


def test_disjoint_boxes_against_the_definition() -> None:
    rng = np.random.default_rng(1)
    boxes = BOXES[:3]
    for point in rng.uniform(-10, 40, (50, 2)):
        inside = [i for i, box in enumerate(boxes) if (box[:2] <= point).all() and (point <= box[2:]).all()]
        wanted = inside[0] if inside else int(np.linalg.norm(centres(boxes) - point, axis=1).argmin())
        assert to_objects(point[None], boxes).tolist() == [wanted]


def test_boxes_are_sorted_row_by_row_with_a_tolerance() -> None:
    boxes = np.array([[50, 9, 60, 20], [0, 0, 10, 10], [30, 25, 40, 30], [90, 5, 99, 9], [5, 30, 9, 40]])
    assert sort_boxes(boxes).tolist() == [1, 0, 3, 4, 2]
    assert sort_boxes(boxes, tolerance=0).tolist() == [1, 3, 0, 2, 4]


def test_trials_of_unusual_length_are_found() -> None:
    lengths = [5] * 20 + [200]
    assert usual_lengths([[0] * n for n in lengths]).tolist() == [True] * 20 + [False]
    assert usual_lengths([[0]]).all()


def test_sequences_stand_between_begin_and_end_padded() -> None:
    assert padded([[0, 2], np.array([1])], 3).tolist() == [[5, 0, 2, 3], [5, 1, 3, 4]]


def test_trials_are_split_by_eighty_ten_and_ten() -> None:
    parts = split_trials(50, seed=1)
    assert [len(part) for part in parts] == [40, 5, 5]
    assert sorted(np.concatenate(parts).tolist()) == list(range(50))
    assert not np.array_equal(parts[0], split_trials(50, seed=2)[0])


def test_a_pair_of_layout_and_target_is_left_out() -> None:
    kept, left = leave_out(["a", "a", "b", "b"], [1, 2, 1, 1], "b", 1)
    assert kept.tolist() == [0, 1] and left.tolist() == [2, 3]


BAD: dict[str, Callable[[], Any]] = {
    r"boxes of shape \(0, 4\) must be \(m, 4\) with m > 0": lambda: to_objects(np.ones((1, 2)), np.empty((0, 4))),
    r"boxes \[0\] do not have left < right": lambda: sort_boxes(np.array([[10.0, 0, 0, 10]])),
    r"boxes \[1\] do not have": lambda: sort_boxes(np.array([[0.0, 0, 1, 1], [np.nan, 0, 1, 1]])),
    "points is empty": lambda: to_objects(np.empty((0, 2)), BOXES),
    "points has no number in rows": lambda: to_objects(np.full((2, 2), np.nan), BOXES),
    "paths is empty": lambda: usual_lengths([]),
    "path 1 must be fixated objects 0 to 2, at least one": lambda: padded([[1], []], 3),
    "count=2 must be at least 3": lambda: split_trials(2),
    "layout='c' with target=1 must be of some trials": lambda: leave_out(["a"], [1], "c", 1),
    "path 0 must be fixated objects 0 to 2": lambda: padded([[3]], 3),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message]()
