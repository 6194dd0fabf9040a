"""Factors of tables: the error is the discarded energy, ranks are the fewest, and nothing is approximated silently."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.ops import svd_factors as module
from saccade.ops.svd_factors import Factors, svd_factors


def table(heads: int, n: int, m: int, seed: int = 0) -> Tensor:
    return torch.randn(heads, n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def smooth(heads: int, n: int, m: int, seed: int = 0) -> Tensor:
    """A table with a falling spectrum."""
    noise = table(heads, n, m, seed)
    u, s, vh = torch.linalg.svd(noise, full_matrices=False)
    return u @ torch.diag_embed(s * 0.6 ** torch.arange(s.shape[-1])) @ vh


def centred(b: Tensor) -> Tensor:
    return b - b.mean(-1, keepdim=True)


def dense(factors: Factors) -> Tensor:
    return (factors.phi_q @ factors.phi_k.mT)[0]


@given(st.integers(1, 3), st.integers(2, 20), st.integers(2, 20), st.floats(0.05, 1.0))
def test_the_squared_error_is_the_discarded_energy(heads: int, n: int, m: int, energy: float) -> None:
    b = smooth(heads, n, m, seed=n * m)
    factors = svd_factors(b, energy=energy)
    s2 = torch.linalg.svdvals(centred(b)).square()
    for h, rank in enumerate(factors.ranks):
        lost = (centred(b)[h] - dense(factors)[h]).square().sum()
        torch.testing.assert_close(lost, s2[h, rank:].sum(), rtol=1e-9, atol=1e-12)
        assert s2[h, :rank].sum() >= energy * s2[h].sum() * (1 - 1e-9)
        assert rank == 0 or s2[h, : rank - 1].sum() < energy * s2[h].sum()
    assert factors.rel_err <= (1 - energy) ** 0.5 + 1e-6
    assert factors.rank == max(factors.ranks)


def test_full_energy_reproduces_the_table_up_to_row_means() -> None:
    b = table(3, 12, 9)
    torch.testing.assert_close(dense(svd_factors(b, energy=1.0)), centred(b), rtol=0, atol=1e-12)
    torch.testing.assert_close(dense(svd_factors(b, energy=1.0, means="keep")), b, rtol=0, atol=1e-12)
    torch.testing.assert_close(dense(svd_factors(b, energy=1.0, means="mix")), b, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:max_rank")
def test_the_error_never_grows_with_the_rank() -> None:
    b = smooth(2, 16, 16)
    errors = [svd_factors(b, energy=1.0, max_rank=r).rel_err for r in range(17)]
    assert all(after <= before + 1e-12 for before, after in zip(errors, errors[1:], strict=False))
    assert errors[0] == pytest.approx(1) and errors[-1] < 1e-7


def test_each_head_uses_its_own_rank() -> None:
    b = torch.stack((torch.ones(8, 1) @ torch.arange(8.0)[None], table(1, 8, 8)[0].float(), torch.zeros(8, 8)))
    factors = svd_factors(b)
    assert factors.ranks[0] == 1 and factors.ranks[1] > 3 and factors.ranks[2] == 0
    assert factors.phi_q[0, 0, :, 1:].eq(0).all() and factors.phi_k[0, 2].eq(0).all()
    assert factors.energies[2] == 1


def test_a_table_constant_in_its_rows_needs_no_column() -> None:
    assert svd_factors(torch.full((2, 40, 40), 3.7)).ranks == (0, 0)


def test_the_published_rule_takes_an_all_positive_table_for_rank_one() -> None:
    b = 16 * torch.sigmoid(0.12 * table(4, 64, 64))  # 16 sigmoid(...), as SwinV2 makes its tables
    kind, honest = svd_factors(b, means="mix"), svd_factors(b)
    assert kind.ranks == (1, 1, 1, 1) and min(kind.energies) >= 0.995
    assert kind.rel_err > 0.5
    assert min(honest.ranks) > 30 and honest.rel_err < 0.08


@pytest.mark.parametrize("shape", [(6, 5), (3, 6, 5), (2, 3, 6, 5)])
def test_leading_dimensions_are_optional(shape: tuple[int, ...]) -> None:
    b = torch.randn(shape, dtype=torch.float64)
    factors = svd_factors(b, energy=1.0, means="keep")
    torch.testing.assert_close((factors.phi_q @ factors.phi_k.mT).reshape(shape), b, rtol=0, atol=1e-12)
    assert len(factors.ranks) == b[..., 0, 0].numel()


def test_a_sketch_finds_the_factors_of_the_full_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    b = smooth(2, 96, 80)
    full = svd_factors(b, energy=0.99, max_rank=11)
    monkeypatch.setattr(module, "SKETCH_FROM", 64)
    sketch = svd_factors(b, energy=0.99, max_rank=11)
    assert sketch.ranks == full.ranks
    torch.testing.assert_close(dense(sketch), dense(full), rtol=0, atol=1e-6)


def test_a_sketch_says_when_its_columns_do_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SKETCH_FROM", 64)
    with pytest.warns(UserWarning, match=r"max_rank=4 keeps less than energy=0.99 in heads \[0\]"):
        assert svd_factors(table(1, 80, 96), energy=0.99, max_rank=4).missing == (0,)


def test_too_small_a_rank_warns_with_the_energy_achieved() -> None:
    b = table(2, 20, 20)
    message = r"max_rank=2 keeps less than energy=0.995 in heads \[0, 1\]; the worst, head \d, keeps 0\.\d+"
    with pytest.warns(UserWarning, match=message) as seen:
        factors = svd_factors(b, max_rank=2)
    assert f"{min(factors.energies):.4f}" in str(seen[0].message)
    assert factors.ranks == (2, 2) and factors.missing == (0, 1)


def test_enough_rank_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert svd_factors(table(1, 6, 6), max_rank=6).missing == ()


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf")])
def test_masks_hidden_in_a_table_are_refused(value: float) -> None:
    b = torch.zeros(2, 4, 4)
    b[1, 2, 3] = value
    message = r"1 entries that are nan or inf, the first at \(1, 2, 3\); pass forbidden pairs as a separate mask"
    with pytest.raises(ValueError, match=message):
        svd_factors(b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": 0.0}, r"energy=0.0 must be in \(0, 1\]"),
        ({"energy": 1.5}, r"energy=1.5 must be in \(0, 1\]"),
        ({"max_rank": -1}, "max_rank=-1 must not be negative"),
        ({"means": "lose"}, "means='lose' must be one of"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        svd_factors(torch.eye(3), **options)  # type: ignore[arg-type]
