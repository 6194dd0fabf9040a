"""Scores of drags: a perfect drag, none at all, and a judge of one's own."""

import numpy as np
import pytest

from saccade.data import scenes
from saccade.metrics.fidelity import Picture
from saccade.papers.diffuhaul import Blob, score_drag
from saccade.papers.diffuhaul.drag_scores import crop, mean_colours

OLD = Blob(x=0.25, y=0.25, a=0.2, b=0.2)
NEW = OLD.moved((0.75, 0.7))


def scene(at: Blob) -> Picture:
    thing = scenes.Thing(colour="red", shape="triangle", size="large", x=at.x, y=at.y)
    return scenes.render(scenes.Scene(things=(thing,), background="gray"), 64)[None].astype(np.float32) / 255


def test_a_perfect_drag_has_all_of_the_object_and_no_trace() -> None:
    found = score_drag(scene(OLD), scene(NEW), OLD, NEW, mean_colours)
    assert found.foreground > 0.95 and found.traces == 0 and found.kept_psnr == np.inf


def test_no_drag_at_all_is_all_trace() -> None:
    found = score_drag(scene(OLD), scene(OLD), OLD, NEW, mean_colours)
    assert found.foreground == 0 and found.traces == pytest.approx(1)


def test_any_judge_of_crops_will_do() -> None:
    seen: list[tuple[int, ...]] = []

    def judge(part: np.ndarray) -> np.ndarray:
        seen.append(part.shape)
        return np.array([1.0, part.mean()])

    score_drag(scene(OLD), scene(NEW), OLD, NEW, judge)
    assert seen == [(26, 26, 3), (27, 26, 3), (26, 26, 3)]
    assert crop(scene(OLD)[0], Blob(x=1.0, y=1.0, a=0.001, b=0.001)).shape == (1, 1, 3)


@pytest.mark.bad_input
def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one picture each, of one size"):
        score_drag(scene(OLD), scene(NEW)[:, :32], OLD, NEW, mean_colours)
