"""Fidelity scores against their definitions, on odd sizes and on videos."""

from math import inf, log10

import numpy as np
import pytest

from saccade.metrics import fidelity, perceptual, psnr, ssim
from saccade.metrics.output import pictures, to_bytes

SHAPE = (2, 33, 21, 3)


def noisy(seed: int = 0, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = rng.random(SHAPE, dtype=np.float32)
    return clean, clean + rng.normal(0, spread, SHAPE).astype(np.float32)


def test_psnr_is_the_log_of_the_mean_squared_error_in_float64() -> None:
    a, b = noisy()
    assert psnr(b, a) == pytest.approx(-10 * log10(np.mean((a.astype(float) - b.astype(float)) ** 2)), rel=1e-12)


def test_a_constant_shift_of_a_tenth_is_twenty_decibels() -> None:
    a = np.full(SHAPE, 0.5)
    assert psnr(a + 0.1, a) == pytest.approx(20)


def test_psnr_falls_by_twenty_decibels_when_the_error_grows_tenfold() -> None:
    a, b = noisy(spread=0.01)
    assert psnr(a, b) - psnr(a, a + 10 * (b - a)) == pytest.approx(20, abs=1e-3)


def test_equal_pictures_score_best_and_are_the_same() -> None:
    a, _ = noisy()
    score = fidelity(a, a)
    assert (score.psnr, score.lpips, score.same) == (inf, None, True)
    assert score.ssim == pytest.approx(1)


def test_one_ulp_apart_is_not_the_same() -> None:
    a, _ = noisy()
    b = a.copy()
    b[0, 0, 0, 0] = np.nextafter(b[0, 0, 0, 0], np.float32(2))
    assert not fidelity(b, a).same


def test_ssim_follows_its_formula() -> None:
    a, b = (x.astype(float) for x in noisy(spread=0.05))
    found = []
    for x, y in zip(
        b.transpose(0, 3, 1, 2).reshape(-1, 33, 21), a.transpose(0, 3, 1, 2).reshape(-1, 33, 21), strict=True
    ):
        windows = (np.lib.stride_tricks.sliding_window_view(z, (7, 7)).reshape(-1, 49) for z in (x, y))
        for u, v in zip(*windows, strict=True):
            covariance = np.cov(u, v)
            top = (2 * u.mean() * v.mean() + 0.01**2) * (2 * covariance[0, 1] + 0.03**2)
            found.append(top / ((u.mean() ** 2 + v.mean() ** 2 + 0.01**2) * (np.trace(covariance) + 0.03**2)))
    assert ssim(b, a) == pytest.approx(np.mean(found), abs=1e-9)


def test_ssim_takes_pictures_smaller_than_its_window() -> None:
    a = np.random.default_rng(0).random((1, 6, 5, 3))
    assert ssim(a, a) == pytest.approx(1)


@pytest.mark.bad_input
def test_shapes_must_agree() -> None:
    a, _ = noisy()
    with pytest.raises(
        ValueError, match=r"picture \(2, 33, 20, 3\) and reference \(2, 33, 21, 3\) must have one shape"
    ):
        psnr(a[:, :, 1:], a)


def test_a_given_judge_is_used_for_lpips() -> None:
    a, b = noisy()
    assert fidelity(b, a, lpips=lambda x, y: float(np.abs(x - y).max())).lpips == pytest.approx(np.abs(a - b).max())


def test_lpips_without_weights_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = perceptual()
    assert found.judge is None
    assert "LPIPS is left out" in found.reason


def test_stills_become_videos_of_one_frame_and_bytes_round() -> None:
    class Output:
        images = [np.full((4, 5, 3), 0.5), np.full((4, 5, 3), 1.2)]

    half, bright = pictures(Output())
    assert half.shape == (1, 4, 5, 3)
    assert (to_bytes(half).max(), to_bytes(bright).max()) == (128, 255)


def test_videos_are_read_from_frames() -> None:
    class Output:
        frames = np.zeros((2, 3, 4, 5, 3))

    assert [video.shape for video in pictures(Output())] == [(3, 4, 5, 3)] * 2


def test_an_output_without_pictures_is_named() -> None:
    with pytest.raises(ValueError, match="dict holds neither images nor frames"):
        pictures({})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_picture_that_is_not_finite_is_no_black_one(value: float) -> None:
    class Output:
        images = [np.full((4, 5, 3), value)]

    with pytest.raises(ValueError, match="a picture holds NaN or infinity; draw it in float32"):
        pictures(Output())
