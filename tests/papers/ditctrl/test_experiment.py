"""The experiment's arms are what they are called, on a pipeline of random weights."""

import numpy as np
import pytest

from saccade.data import scenes
from saccade.papers.ditctrl.experiment import ARMS, EXPERIMENT, RANDOM, drawn, opened, scored

pytestmark = pytest.mark.host


def test_every_arm_draws_its_own_video_of_a_story() -> None:
    (story,), pipe, said = scenes.stories(1, seed=0), opened(RANDOM), EXPERIMENT.quick
    pipe.set_progress_bar_config(disable=True)
    found = {arm: drawn(pipe, said, arm, story, seed=0) for arm in ARMS}
    assert [len(video) for video, _ in found.values()] == [10, 13, 13, 13]
    assert len({video.tobytes() for video, _ in found.values()}) >= 3
    for video, segments in found.values():
        row = scored(video, segments, story)
        assert 0 < row["cscv"] <= 1 and 0 <= row["steady"] <= 1 and 0 <= row["motion"] <= 1  # type: ignore[operator]
    again, _ = drawn(pipe, said, ARMS[-1], story, seed=0)
    assert np.array_equal(again, found[ARMS[-1]][0])
