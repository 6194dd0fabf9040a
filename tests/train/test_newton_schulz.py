"""What Newton-Schulz and the exact polar factor do to singular values and vectors; agreement with torch's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz
from torch.utils.flop_counter import FlopCounterMode

from saccade.train.newton_schulz import EPS, QUINTIC, newton_schulz, newton_schulz_flops, orthogonal, polar

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "muon-mla-moe"
SHAPES = [(6, 10), (10, 6), (8, 8), (1, 5), (5, 1)]


def _matrix(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _reference(u: Tensor, steps: int) -> Tensor:
    """By the singular values alone, in double precision."""
    left, s, right = torch.linalg.svd(u.double(), full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(steps):
        s = _polynomial(s)
    return left @ s.diag() @ right


def _polynomial(s: Tensor) -> Tensor:
    a, b, c = QUINTIC
    return a * s + b * s**3 + c * s**5


def test_goldens_of_the_optimisers_it_comes_from() -> None:
    found = load_file(GOLDENS / "case_newton_schulz.safetensors")
    for name in ("wide", "square"):
        x = found[f"ns_{name}_in"]
        torch.testing.assert_close(newton_schulz(x), found[f"ns_{name}_fp32"], atol=1e-5, rtol=0)
        torch.testing.assert_close(newton_schulz(x, steps=1), found[f"ns_{name}_1step_fp32"], atol=1e-5, rtol=0)
        half = newton_schulz(x, dtype=torch.bfloat16).float()
        torch.testing.assert_close(half, found[f"ns_{name}_bf16"].float(), atol=0.02, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_a_polynomial_of_the_singular_values(shape: tuple[int, int]) -> None:
    for steps in (0, 1, 3, 5):
        x = _matrix(*shape)
        torch.testing.assert_close(newton_schulz(x, steps=steps), _reference(x, steps))


@pytest.mark.parametrize("shape", SHAPES)
def test_torchs_own_gives_the_same_in_bfloat16(shape: tuple[int, int]) -> None:
    """Up to rounding, which differs: torch fuses sums of products."""
    x = _matrix(*shape, dtype=torch.float32)
    theirs = _zeropower_via_newtonschulz(x, QUINTIC, 5, EPS).float()
    torch.testing.assert_close(newton_schulz(x, dtype=torch.bfloat16).float(), theirs, atol=0.1, rtol=0)


def test_the_polynomial() -> None:
    x = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    values = _polynomial(x)
    assert float(values[-1]) == pytest.approx(0.7010, abs=5e-5)
    assert float(values.max()) == pytest.approx(1.20237, abs=1e-5)
    assert float(x[values.argmax()]) == pytest.approx(0.5545, abs=1e-4)
    for fixed in (0.8680, 1.2637):
        assert float(_polynomial(torch.tensor(fixed))) == pytest.approx(fixed, abs=2e-4)
    assert QUINTIC[0] ** 5 == pytest.approx(484.88, abs=5e-3)


@given(seed=st.integers(0, 999), rows=st.integers(2, 12), columns=st.integers(2, 12))
def test_singular_values_after_five_steps(seed: int, rows: int, columns: int) -> None:
    u = _spread(rows, columns, seed)
    left, s, right = torch.linalg.svd(u, full_matrices=False)
    ends = torch.linalg.svdvals(newton_schulz(u.float()).double())
    assert float(ends.max()) <= 1.2024 + 1e-5
    by_vector = (left.mT @ newton_schulz(u) @ right.mT).diagonal()
    share = s / u.norm()
    assert ((by_vector >= 0.6818 - 1e-4) & (by_vector <= 1.1344 + 1e-4))[share >= 0.01].all()
    assert (by_vector >= 0.4705 - 1e-4)[share >= 0.001].all()


def _spread(rows: int, columns: int, seed: int) -> Tensor:
    """A matrix whose singular values span five decades."""
    left, _, right = torch.linalg.svd(_matrix(rows, columns, seed=seed), full_matrices=False)
    s = 10 ** (-5 * torch.rand(min(rows, columns), generator=torch.Generator().manual_seed(seed)).double())
    return left @ s.diag() @ right


def test_zero_singular_values_stay_zero() -> None:
    x = _matrix(12, 4, dtype=torch.float32) @ _matrix(4, 9, seed=1, dtype=torch.float32)
    for done in (newton_schulz(x), polar(x)):
        s = torch.linalg.svdvals(done)
        assert (s[:4] > 0.4).all() and (s[4:] < 2e-5).all()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 5e-6), (torch.bfloat16, 0.03)])
def test_singular_vectors_are_kept(dtype: torch.dtype, bound: float) -> None:
    x = _matrix(16, 24, dtype=torch.float32)
    left, _, right = torch.linalg.svd(x.double(), full_matrices=False)
    inner = left.mT @ newton_schulz(x, dtype=dtype).double() @ right.mT
    assert float((inner - inner.diagonal().diag()).abs().max()) < bound


def test_close_to_the_polar_factor_in_direction_and_smaller() -> None:
    x = _matrix(64, 96, dtype=torch.float32)
    near, exact = newton_schulz(x), polar(x)
    assert float(torch.cosine_similarity(near.flatten(), exact.flatten(), 0)) > 0.97
    assert 0.82 <= float(near.square().mean().sqrt() / exact.square().mean().sqrt()) <= 0.9
    assert float(exact.square().mean().sqrt()) == pytest.approx(96**-0.5, rel=1e-5)


@pytest.mark.parametrize("way", [newton_schulz, polar])
@given(seed=st.integers(0, 99), factor=st.floats(1e-3, 1e3))
def test_scale_rotation_and_transposition(way: Callable[[Tensor], Tensor], seed: int, factor: float) -> None:
    x = _matrix(5, 7, seed=seed)
    rotation = torch.linalg.qr(_matrix(5, 5, seed=seed + 1))[0]
    torch.testing.assert_close(way(factor * x), way(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(way(rotation @ x), rotation @ way(x))
    torch.testing.assert_close(way(x.mT), way(x).mT, rtol=1e-10, atol=1e-10)
    assert way is polar or torch.equal(way(x.mT), way(x).mT)


@pytest.mark.parametrize("way", [newton_schulz, polar])
def test_zero_gives_zero_and_a_stack_is_its_matrices(way: Callable[[Tensor], Tensor]) -> None:
    assert torch.equal(way(torch.zeros(4, 3)), torch.zeros(4, 3))
    stack = torch.stack([_matrix(6, 4, seed=i) for i in range(3)])
    torch.testing.assert_close(way(stack), torch.stack([way(each) for each in stack]))


def test_polar_factor_is_steepest_descent_and_the_nearest_orthonormal_matrix() -> None:
    g = _matrix(6, 9)
    best, norms = polar(g), torch.linalg.svdvals(g)
    torch.testing.assert_close((g * best).sum(), norms.sum())
    torch.testing.assert_close(best @ best.mT, torch.eye(6, dtype=torch.float64))
    for seed in range(20):
        other = _matrix(6, 9, seed=seed + 1)
        inside = other / torch.linalg.svdvals(other)[0]
        assert float((g * inside).sum()) <= float(norms.sum())
        orthonormal = torch.linalg.qr(other.mT)[0].mT
        assert float((g - best).norm()) <= float((g - orthonormal).norm())


@pytest.mark.parametrize(("rows", "columns"), [(16, 24), (24, 16), (8, 8)])
def test_cost(rows: int, columns: int) -> None:
    with FlopCounterMode(display=False) as counter:
        newton_schulz(torch.randn(rows, columns))
    m, n = sorted((rows, columns))
    assert counter.get_total_flops() == newton_schulz_flops(rows, columns) == 5 * (4 * m * m * n + 2 * m**3)
    training = 6 * m * n  # multiplications and additions for each token
    assert newton_schulz_flops(rows, columns) <= 5 * m * training


def test_precision_of_the_result() -> None:
    for given_, expected in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        assert newton_schulz(torch.ones(2, 3, dtype=given_)).dtype is polar(torch.ones(2, 3, dtype=given_)).dtype
        assert newton_schulz(torch.ones(2, 3, dtype=given_)).dtype is expected
    assert newton_schulz(torch.ones(2, 3), dtype=torch.bfloat16).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "ns_steps=-1 must be at least 0 and below 100"),
        ({"steps": 100}, "ns_steps=100 must be at least 0 and below 100"),
        ({"method": "qr"}, "method='qr' must be one of newton_schulz, svd"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        orthogonal(torch.ones(2, 2), **options)
