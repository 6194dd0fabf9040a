"""Half precision: how far factors are off, and columns that are not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.ops.exact_factors import alibi_slopes, distance_factors, linear_factors
from saccade.ops.rounding import rounding_error, split, split_positions

HALF = [torch.float16, torch.bfloat16]


def order(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64)


def gap(bias: LowRank, dtype: torch.dtype, truth: Tensor) -> float:
    rounded = bias.phi_q.to(dtype).double() @ bias.phi_k.to(dtype).double().mT
    return float((rounded - truth).abs().max())


@pytest.mark.parametrize(
    ("dtype", "n", "error"),
    [
        (torch.float16, 2048, 0.0), (torch.float16, 4096, 1.0), (torch.float16, 8192, 2.0), (torch.float16, 16384, 4.0),
        (torch.bfloat16, 256, 0.0), (torch.bfloat16, 2048, 4.0), (torch.bfloat16, 16384, 32.0),
    ],
)  # fmt: skip
def test_bare_positions_are_off_by_whole_units(dtype: torch.dtype, n: int, error: float) -> None:
    lost = 0.5 * (order(n).to(dtype).double() - order(n))  # slope 1/2
    past = torch.maximum(lost - lost.cummin(0).values, lost.cummax(0).values - lost)  # worst key up to each query
    assert float(past.max()) == error
    bias = linear_factors(torch.tensor([0.5]), order(n), order(n))
    assert error <= rounding_error(bias, dtype) <= 2 * error


@pytest.mark.parametrize(("dtype", "last"), [(torch.float16, 16384), (torch.bfloat16, 32640)])
def test_split_positions_are_exact_where_bare_ones_are_not(dtype: torch.dtype, last: int) -> None:
    j = torch.arange(last + 1, dtype=torch.float64)
    columns = split_positions(j)
    assert torch.equal(columns.to(dtype).double().sum(-1), j)
    assert not torch.equal(j.to(dtype).double(), j)


@pytest.mark.parametrize("dtype", HALF)
def test_splitting_positions_takes_two_columns_and_no_error(dtype: torch.dtype) -> None:
    keys = linear_factors(alibi_slopes(8), order(9000), order(9000), form="keys")
    fine = split(keys, dtype)
    assert (keys.rank, fine.rank) == (1, 2)
    assert rounding_error(keys, dtype) >= 1 and rounding_error(fine, dtype) == 0


@given(st.integers(1, 12), st.integers(2, 400))
def test_a_split_bias_is_the_bias(heads: int, n: int) -> None:
    bias = linear_factors(alibi_slopes(heads), order(n), order(n))
    fine = split(bias)
    truth = bias.phi_q @ bias.phi_k.mT
    torch.testing.assert_close(fine.phi_q @ fine.phi_k.mT, truth, rtol=0, atol=1e-12)
    assert gap(fine, torch.bfloat16, truth) <= rounding_error(fine, torch.bfloat16) + 1e-12


@pytest.mark.parametrize("dtype", HALF)
def test_a_split_keeps_twice_the_bits(dtype: torch.dtype) -> None:
    x = torch.cartesian_prod(order(64), order(64)) - 31.5
    bias = distance_factors(x, x, torch.full((1, 1), 0.37))
    truth = bias.phi_q @ bias.phi_k.mT
    assert gap(split(bias, dtype), dtype, truth) < 0.01 * gap(bias, dtype, truth)


def test_exact_columns_are_not_split() -> None:
    bias = linear_factors(torch.tensor([0.5]), order(200), order(200))
    assert split(bias).rank == 2


@pytest.mark.parametrize("dtype", HALF)
@given(seed=st.integers(0, 99))
def test_the_error_bound_holds(dtype: torch.dtype, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    phi_q, phi_k = (torch.randn(1, 2, n, 3, dtype=torch.float64, generator=generator) for n in (17, 13))
    bias = LowRank(phi_q, phi_k)
    assert gap(bias, dtype, phi_q @ phi_k.mT) <= rounding_error(bias, dtype)
