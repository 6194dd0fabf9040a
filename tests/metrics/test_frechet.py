"""Distances of sets of features: closed forms, laws, and independent float64 rewrites."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from saccade.metrics import Moments, Spread, frechet, frechet_distance, kernel_distance
from saccade.metrics.frechet import discrepancy

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, n: int = 40, f: int = 5) -> torch.Tensor:
    """Correlated vectors off the origin."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(n, f, generator=noise) @ torch.randn(f, f, generator=noise) + torch.randn(f, generator=noise)


def turn(seed: int, f: int = 5) -> torch.Tensor:
    """A random rotation."""
    noise = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(f, f, generator=noise, dtype=torch.float64)).Q


@given(seed=seeds)
def test_it_is_the_textbook_formula(seed: int) -> None:
    a, b = drawn(seed).double(), drawn(seed + 1, n=55).double()
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = np.asarray(sqrtm(cov_a @ cov_b)).real
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet(a, b, resamples=1).value == pytest.approx(wanted, rel=1e-6)


@given(seed=seeds, shift=st.floats(0, 10), scale=st.floats(0.1, 10))
def test_of_gaussians_that_share_axes_it_is_the_closed_form(seed: int, shift: float, scale: float) -> None:
    moments = Moments.of(drawn(seed))
    moved = frechet_distance(moments.mean, moments.cov, moments.mean + shift, moments.cov * scale**2)
    wanted = len(moments.mean) * shift**2 + (scale - 1) ** 2 * moments.cov.trace().item()
    assert moved == pytest.approx(wanted, rel=1e-9, abs=1e-9 * moments.cov.trace().item())


def test_it_grows_with_the_shift() -> None:
    x = drawn(0)
    values = [frechet(x, x + shift, resamples=1).value for shift in (0, 0.1, 0.5, 2)]
    assert values == sorted(values) and values[0] < 1e-9


@given(seed=seeds)
def test_it_is_symmetric_and_turns_with_its_features(seed: int) -> None:
    a, b, turned = drawn(seed).double(), drawn(seed + 1).double(), turn(seed)
    value = frechet(a, b, resamples=1).value
    assert frechet(b, a, resamples=1).value == pytest.approx(value, rel=1e-8)
    assert frechet(a @ turned, b @ turned, resamples=1).value == pytest.approx(value, rel=1e-8)


def test_fewer_vectors_than_features_leave_it_finite() -> None:
    a, b = drawn(0, n=4, f=12), drawn(1, n=4, f=12)
    assert 0 < frechet(a, b, resamples=1).value < float("inf")
    assert frechet(a, a, resamples=1).value == pytest.approx(0, abs=1e-4)


@given(seed=seeds, rows=st.integers(1, 40))
def test_moments_of_chunks_are_those_of_the_whole(seed: int, rows: int) -> None:
    x = drawn(seed).double() + 1e3
    found = Moments.over(x.split(rows))
    assert found.n == len(x)
    torch.testing.assert_close(found.mean, x.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.cov, x.T.cov(), rtol=1e-9, atol=1e-9)


def test_the_spread_is_that_of_drawing_again() -> None:
    wide, narrow = (frechet(drawn(0, n=n), drawn(1, n=n), resamples=20).spread for n in (30, 3000))
    assert wide > 4 * narrow > 0
    assert frechet(drawn(0), drawn(1)) == frechet(drawn(0), drawn(1))


def test_discrepancy_is_the_sum_over_pairs() -> None:
    x, y = drawn(0, n=7).double(), drawn(1, n=9).double()
    kernel = [[[(a @ b / 5 + 1) ** 3 for b in right] for a in left] for left, right in ((x, x), (y, y), (x, y))]
    off = [sum(row[j] for i, row in enumerate(k) for j in range(len(k)) if j != i) for k in kernel[:2]]
    wanted = off[0] / 42 + off[1] / 72 - 2 * sum(map(sum, kernel[2])) / 63
    assert discrepancy(x, y) == pytest.approx(float(wanted), rel=1e-10)


def test_discrepancy_is_unbiased() -> None:
    x = drawn(7, n=4000)
    values = torch.tensor([discrepancy(x[i::400], x[i + 200 :: 400]) for i in range(200)])
    assert abs(values.mean()) < 3 * values.std() / 200**0.5


@given(seed=seeds)
def test_kernel_distance_turns_with_its_features(seed: int) -> None:
    a, b, turned = drawn(seed).double(), drawn(seed + 1).double(), turn(seed)
    found, again = (kernel_distance(x, y, subsets=3, size=20) for x, y in ((a, b), (a @ turned, b @ turned)))
    assert found.value == pytest.approx(again.value, rel=1e-7) and found.spread > 0


def test_of_whole_sets_the_kernel_distance_has_no_spread() -> None:
    a, b = drawn(0), drawn(1)
    found = kernel_distance(a, b, subsets=4, size=40)
    assert found.value == pytest.approx(discrepancy(a, b)) and found.spread < 1e-9 * found.value


def test_a_spread_reads_well() -> None:
    assert str(Spread(value=1.2345, spread=0.0456)) == "1.23 ± 0.046"


@pytest.mark.bad_input
def test_bad_sets_are_answered() -> None:
    x = drawn(0)
    with pytest.raises(ValueError, match="fake holds 1 feature vectors; give at least two"):
        frechet(x, x[:1])
    with pytest.raises(ValueError, match="real has 5 features and fake 4; both need the same extractor"):
        frechet(x, x[:, :4])
    with pytest.raises(ValueError, match="real holds features that are not finite"):
        kernel_distance(x / 0, x)
    with pytest.raises(ValueError, match="size=41 must be 2 to 40, the size of the smaller set"):
        kernel_distance(x, x, size=41)
    with pytest.raises(ValueError, match=r"features \(0, 5\) hold no vector; give at least one"):
        Moments.of(x[:0])
    with pytest.raises(ValueError, match="n=1 vector has no covariance; give at least two"):
        Moments.of(x[:1]).frechet(Moments.of(x))
