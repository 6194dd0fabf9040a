"""Scores of edits against hand-computed cases and rewrites in float64."""

from dataclasses import asdict
from math import inf, isnan, log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.data.scenes import masks, render, sample
from saccade.metrics import (
    Judges,
    blanked,
    canny_ssim,
    edges,
    psnr,
    score_edit,
    ssim,
    structure_distance,
    summarise_edits,
    within,
)


def pair(seed: int = 0, shape: tuple[int, ...] = (1, 20, 24, 3)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.random(shape)
    return a, np.clip(a + rng.normal(0, 0.1, shape), 0, 1)


def square(size: int = 32, low: int = 10, high: int = 20, value: float = 1.0, ground: float = 0.0) -> np.ndarray:
    picture = np.full((1, size, size, 3), ground)
    picture[:, low:high, low:high] = value
    return picture


def corner(h: int = 20, w: int = 24) -> np.ndarray:
    region = np.zeros((h, w), bool)
    region[3:12, 5:17] = True
    return region


def test_edges_of_a_square_run_around_it() -> None:
    found = edges(square())[0]
    near = np.zeros((32, 32), bool)
    near[8:22, 8:22] = True
    near[12:18, 12:18] = False
    assert found.any() and not found[~near].any()
    assert found[9:11, 12:18].any(0).all() and found[12:18, 19:21].any(1).all()


@pytest.mark.parametrize(("step", "seen"), [(0.19, False), (0.21, True)])
def test_a_straight_edge_shows_from_a_step_of_200_in_255_over_the_weights_of_sobel(step: float, seen: bool) -> None:
    picture = np.full((1, 32, 32, 3), 0.2)
    picture[:, :, 16:] += step  # the gradient's length is four times the step
    assert edges(picture).any() == seen


def test_canny_ssim_is_one_for_equal_edges_and_falls_with_their_shift() -> None:
    a = square()
    assert canny_ssim(a, a) == pytest.approx(1)
    assert canny_ssim(square(value=0.9, ground=0.1), a) == pytest.approx(1)
    near, far = (canny_ssim(np.roll(a, by, axis=2), a) for by in (2, 9))
    assert 1 > near > far


def test_canny_ssim_is_the_ssim_of_the_maps() -> None:
    a, b = square(), square(low=12, high=22)
    maps = [edges(x)[..., None].repeat(3, -1).astype(float) for x in (a, b)]
    assert canny_ssim(a, b) == pytest.approx(ssim(*maps), abs=1e-12)


def test_blanked_is_the_comparison_of_both_pictures_times_the_region() -> None:
    (a, b), region = pair(), corner()
    found, weight = blanked(a, b, region), region[None, :, :, None]
    assert found.mse == pytest.approx(np.mean((a * weight - b * weight) ** 2), rel=1e-12)
    assert found.psnr == pytest.approx(psnr(a * weight, b * weight), rel=1e-12)
    assert found.ssim == pytest.approx(ssim(a * weight, b * weight), rel=1e-9)


def test_within_is_the_mean_over_the_region() -> None:
    (a, b), region = pair(), corner()
    found = within(a, b, region)
    errors = [(a[0, y, x] - b[0, y, x]) ** 2 for y, x in zip(*np.nonzero(region), strict=True)]
    assert found.mse == pytest.approx(np.mean(errors), rel=1e-12)
    assert found.psnr == pytest.approx(-10 * log10(np.mean(errors)), rel=1e-12)


@given(st.integers(0, 1000), st.floats(0.05, 0.95))
def test_a_blanked_error_is_the_mean_error_times_the_share_of_the_region(seed: int, share: float) -> None:
    a, b = pair(seed)
    region = np.random.default_rng(seed).random((20, 24)) < share
    region[0, 0] = True
    assert blanked(a, b, region).mse == pytest.approx(region.mean() * within(a, b, region).mse, rel=1e-9)


def test_the_whole_frame_is_plain_fidelity() -> None:
    (a, b), everywhere = pair(), np.ones((20, 24), bool)
    for found in (within(a, b, everywhere), blanked(a, b, everywhere)):
        assert found.psnr == pytest.approx(psnr(a, b), rel=1e-12)
        assert found.ssim == pytest.approx(ssim(a, b), rel=1e-9)


def test_what_happens_outside_a_region_does_not_count_in_it() -> None:
    (a, b), region = pair(), corner()
    b = np.where(region[None, :, :, None], a, b)
    assert (within(a, b, region).mse, within(a, b, region).psnr) == (0, inf)
    assert within(a, b, ~region).mse > 0 and blanked(a, b, region).ssim == pytest.approx(1)


def test_an_empty_region_has_no_score() -> None:
    (a, b), nothing = pair(), np.zeros((20, 24), bool)
    assert all(isnan(x) for x in (*asdict(within(a, b, nothing)).values(), *asdict(blanked(a, b, nothing)).values()))


@pytest.mark.bad_input
def test_regions_that_do_not_fit_are_named() -> None:
    a, b = pair()
    with pytest.raises(ValueError, match=r"region bool \(20, 20\) must be bool of the pictures' \(20, 24\)"):
        within(a, b, np.ones((20, 20), bool))
    with pytest.raises(ValueError, match=r"region float64 \(20, 24\) must be bool"):
        blanked(a, b, np.ones((20, 24)))


def patches(picture: np.ndarray) -> np.ndarray:
    """The mean colour of each 4 x 4 patch, as features."""
    _, h, w, _ = picture.shape
    return picture[0].reshape(h // 4, 4, w // 4, 4, 3).mean((1, 3)).reshape(-1, 3)


def test_structure_distance_is_written_out_and_blind_to_brightness() -> None:
    a, b = pair()
    f, g = (patches(x) for x in (a, b))
    cosines = [np.array([[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in x] for u in x]) for x in (f, g)]
    assert structure_distance(a, b, patches) == pytest.approx(np.mean((cosines[0] - cosines[1]) ** 2), rel=1e-9)
    assert structure_distance(a, a / 2, patches) == pytest.approx(0, abs=1e-20)


def test_structure_distance_names_features_that_differ_in_number() -> None:
    a, b = pair()
    with pytest.raises(ValueError, match="features gave 30 and 7 patches"):
        structure_distance(a, b, lambda x: patches(x) if x is a else patches(x)[:7])


def recoloured() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scene = sample(np.random.default_rng(3), count=2)
    source = render(scene)[None] / 255
    region = masks(scene)[0]
    edit = source.copy()
    edit[:, region] = edit[:, region][..., ::-1]
    return source, edit, region


def test_an_edit_that_keeps_to_its_region_leaves_the_rest_perfect() -> None:
    source, edit, region = recoloured()
    scores = score_edit(source, edit, region, "a thing")
    assert (scores.psnr, scores.mse, scores.kept_psnr) == (inf, 0, inf)
    assert (scores.lpips, scores.text, scores.text_edited, scores.structure_distance) == (None,) * 4
    assert score_edit(source, edit, ~region, "a thing").mse > 0


def test_judges_get_the_pictures_they_are_meant_to_see() -> None:
    source, edit, region = recoloured()
    seen: list[np.ndarray] = []

    def text(picture: np.ndarray, prompt: str) -> float:
        seen.append(picture)
        return float(len(prompt))

    judges = Judges(lpips=lambda a, b: float(np.abs(a - b).max()), text=text, features=patches)
    scores = score_edit(source, edit, region, "a thing", judges=judges)
    assert (scores.lpips, scores.text, scores.text_edited) == (0, 7, 7)
    assert scores.structure_distance == structure_distance(edit, source, patches)
    assert np.array_equal(seen[0], edit) and not seen[1][:, ~region].any()
    assert np.array_equal(seen[1][:, region], edit[:, region])


def test_a_summary_has_the_mean_of_what_was_measured() -> None:
    source, edit, region = recoloured()
    all_, none = score_edit(source, edit, region, ""), score_edit(source, source, np.ones_like(region), "")
    summary = summarise_edits([all_, none, all_])
    assert summary["canny_ssim"].mid == pytest.approx((2 * all_.canny_ssim + 1) / 3)
    assert "psnr" not in summary and "text" not in summary and summary["mse"].n == 2
    assert isnan(none.psnr)
