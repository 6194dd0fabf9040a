"""CSCV by its formula and its laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.metrics import cscv, pooled_pixels
from saccade.metrics.smoothness import similarities, variation_score


def turning(angles: list[float]) -> np.ndarray:
    return np.stack([(np.cos(a), np.sin(a)) for a in angles])


def score(features: np.ndarray) -> float:
    return cscv(np.zeros((len(features), 4, 4, 3), np.float32), lambda video: features)


def test_it_is_the_formula() -> None:
    features = turning([0.0, 0.1, 0.4, 0.5])
    s = np.cos([0.1, 0.3, 0.1])
    assert score(features) == pytest.approx(1 / (1 + 10 * s.std() / s.mean()))
    assert variation_score(np.array([1.0, 0.5]), scale=2.0) == pytest.approx(1 / (1 + 2 * 0.25 / 0.75))
    for shown, varied in ((0.849, 0.0178), (0.724, 0.0382)):  # the paper's table
        assert 1 / (1 + 10 * varied) == pytest.approx(shown, abs=1e-3)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=9))
def test_it_lies_above_zero_up_to_one(angles: list[float]) -> None:
    assert 0 < score(turning(angles)) <= 1


def test_it_is_one_where_all_changes_are_equal_and_only_there() -> None:
    assert score(np.ones((5, 3))) == 1
    assert score(turning([0.25 * i for i in range(6)])) == pytest.approx(1, abs=1e-9)
    assert variation_score(np.full(4, -0.3)) == 1
    assert score(turning([0, 0.2, 0.4, 0.7])) < 1 - 1e-3


def test_one_cut_lowers_it() -> None:
    even = [0.05 * i for i in range(8)]
    cut = [a + (0.8 if i >= 4 else 0) for i, a in enumerate(even)]
    assert score(turning(cut)) < 0.6 < score(turning(even))


def test_pooled_pixels_see_where_colours_are() -> None:
    video = np.full((3, 16, 24, 3), 0.5, np.float32)
    video[1, :8], video[2, 8:] = 1, 1
    features = pooled_pixels(video, side=2)
    assert features.shape == (3, 12) and not features[0].any()
    assert features[1, :6].tolist() == [0.5] * 6 and features[2, 6:].tolist() == [0.5] * 6


@pytest.mark.bad_input
def test_what_cannot_be_scored_is_named() -> None:
    with pytest.raises(ValueError, match="2 frames have no variation of their changes; give a video of three"):
        score(np.ones((2, 3)))
    video = np.zeros((4, 4, 4, 3), np.float32)
    for features, message in (
        (np.ones((3, 2)), r"encode gave \(3, 2\) for 4 frames; a finite vector for each"),
        (np.ones(4), r"encode gave \(4,\) for 4 frames"),
        (np.full((4, 2), np.nan), "a finite vector for each is due"),
        (np.stack([np.ones(2), np.zeros(2), np.ones(2), np.ones(2)]), "encode gave frame 1 a vector of no length"),
    ):
        with pytest.raises(ValueError, match=message):
            cscv(video, lambda video, features=features: features)  # type: ignore[misc]
    with pytest.raises(ValueError, match=r"side=8 is more than the \(4, 4\) pixels"):
        pooled_pixels(video)
    assert similarities(np.ones((3, 2)), 3).tolist() == pytest.approx([1, 1])
