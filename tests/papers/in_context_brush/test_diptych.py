"""Diptychs: the subject on white above, the target below, and every mask and size that does not fit."""

import numpy as np
import pytest

from saccade.papers.in_context_brush import Diptych, make_diptych, on_white
from saccade.papers.in_context_brush.diptych import cut_out, fitted, resized, resized_mask

RNG = np.random.default_rng(0)
SUBJECT, TARGET = (RNG.random((1, 8, 12, 3), dtype=np.float32) for _ in range(2))
MASK = np.zeros((8, 12), np.float32)
MASK[2:5, 3:9] = 1


def test_the_subject_lies_above_the_target_and_the_mask_is_zero_there() -> None:
    made = make_diptych(SUBJECT, TARGET, MASK)
    assert np.array_equal(made.picture[:, :8], SUBJECT) and np.array_equal(made.lower(made.picture), TARGET)
    assert not made.mask[:8].any() and np.array_equal(made.mask[8:], MASK)


def test_a_subject_is_pasted_on_white() -> None:
    pasted = on_white(SUBJECT, MASK > 0)
    assert np.array_equal(pasted[0][MASK > 0], SUBJECT[0][MASK > 0]) and (pasted[0][MASK == 0] == 1).all()
    half = on_white(SUBJECT, 0.5 * MASK)
    np.testing.assert_allclose(half[0][MASK > 0], (SUBJECT[0][MASK > 0] + 1) / 2, atol=1e-6)


def test_a_subject_is_found_by_its_name_and_cut_out_of_its_first_box() -> None:
    asked: list[object] = []

    def detect(picture: np.ndarray, phrase: str) -> tuple[float, float, float, float] | None:
        asked.append(phrase)
        return (3, 2, 9, 5) if phrase == "barn" else None

    def segment(picture: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
        asked.append(box)
        return MASK > 0

    assert np.array_equal(cut_out(SUBJECT, "barn", detect, segment), MASK)
    assert asked == ["barn", (3, 2, 9, 5)]
    with pytest.raises(ValueError, match="'church' was not found in the subject's picture"):
        cut_out(SUBJECT, "church", detect, segment)
    with pytest.raises(ValueError, match=r"mask \(2, 2\) must be of the picture's size, \(8, 12\)"):
        cut_out(SUBJECT, "barn", detect, lambda picture, box: np.ones((2, 2)))
    with pytest.raises(ValueError, match="mask is empty"):
        cut_out(SUBJECT, "barn", detect, lambda picture, box: np.zeros((8, 12)))


def test_sizes_are_changed_with_and_without_proportions() -> None:
    flat = np.full((1, 8, 12, 3), 0.25, np.float32)
    assert (resized(flat, (4, 20)) == 0.25).all() and resized(flat, (4, 20)).shape == (1, 4, 20, 3)
    wide = fitted(flat, (12, 12))
    assert wide.shape == (1, 12, 12, 3) and (wide[:, 2:10] == 0.25).all()
    assert (wide[:, :2] == 1).all() and (wide[:, 10:] == 1).all()
    assert fitted(flat, (8, 12)) is not flat and np.array_equal(fitted(flat, (8, 12)), flat)
    assert resized(SUBJECT, (8, 12)) is SUBJECT and resized_mask(MASK, (8, 12)) is MASK
    assert resized_mask(MASK, (16, 24)).sum() == pytest.approx(4 * MASK.sum(), rel=0.2)


@pytest.mark.bad_input
def test_what_makes_no_diptych_is_named() -> None:
    with pytest.raises(ValueError, match=r"subject \(8, 10\) and target \(8, 12\) must be of one size"):
        make_diptych(SUBJECT[:, :, :10], TARGET, MASK)
    with pytest.raises(ValueError, match="mask is empty, so there is no place for the subject"):
        make_diptych(SUBJECT, TARGET, np.zeros((8, 12), np.float32))
    with pytest.raises(ValueError, match=r"mask \(12, 8\) must be of the picture's size, \(8, 12\)"):
        make_diptych(SUBJECT, TARGET, MASK.T)
    with pytest.raises(ValueError, match=r"mask in \[0, 2\] must be in \[0, 1\]"):
        make_diptych(SUBJECT, TARGET, 2 * MASK)
    whole = np.concatenate((SUBJECT, TARGET), axis=1)
    with pytest.raises(ValueError, match="the mask reaches into the upper half, which shows the subject"):
        Diptych(picture=whole, mask=np.ones((16, 12), np.float32))
    with pytest.raises(ValueError, match="a diptych of 15 rows of pixels has no equal halves"):
        Diptych(picture=whole[:, :15], mask=np.ones((15, 12), np.float32))
    with pytest.raises(ValueError, match="mask is empty"):
        on_white(SUBJECT, np.zeros((8, 12)))
