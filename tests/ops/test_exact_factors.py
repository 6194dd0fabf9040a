"""Factors from formulas: phi_q phi_k^T is the formula, with the stated number of columns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.ops import exact_factors as exact

TIGHT = 1e-12


def places(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def order(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64)


def dense(bias: LowRank) -> Tensor:
    return bias.phi_q @ bias.phi_k.mT


def softmax_gap(a: Tensor, b: Tensor) -> float:
    return float((a.softmax(-1) - b.softmax(-1)).abs().max())


def test_slopes_of_eight_heads_halve_from_one_half() -> None:
    assert exact.alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]


@given(st.integers(1, 40))
def test_slopes_are_geometric_for_any_number_of_heads(heads: int) -> None:
    slopes = exact.alibi_slopes(heads)
    assert slopes[-1] == 2.0**-8
    torch.testing.assert_close(slopes.log2().diff(), torch.full((heads - 1,), -8 / heads, dtype=torch.float64))


@given(st.integers(1, 33), st.integers(1, 29), st.integers(1, 6))
def test_linear_factors_are_slope_times_key_minus_query(n: int, m: int, heads: int) -> None:
    slope, i, j = exact.alibi_slopes(heads), order(n), order(m)
    bias = exact.linear_factors(slope, i, j)
    assert bias.rank == 2
    torch.testing.assert_close(dense(bias)[0], slope[:, None, None] * (j - i[:, None]), rtol=0, atol=TIGHT)


def test_causal_linear_bias_is_never_a_reward() -> None:
    bias = dense(exact.linear_factors(exact.alibi_slopes(4), order(20), order(20)))
    past = torch.ones(20, 20).tril(-1).bool()
    assert (bias[..., past] < 0).all() and (bias.diagonal(dim1=-2, dim2=-1) == 0).all()


def test_the_printed_sign_rewards_distance_into_the_past() -> None:
    slope, i = exact.alibi_slopes(4), order(20)
    printed = exact.reversed_linear_factors(slope, i, i)
    torch.testing.assert_close(dense(printed), -dense(exact.linear_factors(slope, i, i)), rtol=0, atol=0)


def test_one_column_gives_the_attention_of_two() -> None:
    slope, i, j = exact.alibi_slopes(5), order(31), order(17)
    keys = exact.linear_factors(slope, i, j, form="keys")
    assert keys.rank == 1
    assert softmax_gap(dense(keys), dense(exact.linear_factors(slope, i, j))) < TIGHT


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(("form", "columns"), [("each_axis", lambda d: 3 * d), ("minimal", lambda d: d + 2)])
def test_distance_factors_are_minus_the_squared_distance(d: int, form: str, columns) -> None:  # noqa: ANN001
    x, y = places(23, d), places(19, d, seed=1)
    bias = exact.distance_factors(x, y, form=form)  # type: ignore[arg-type]
    assert bias.rank == columns(d)
    torch.testing.assert_close(dense(bias)[0, 0], -(x[:, None] - y).square().sum(-1), rtol=0, atol=TIGHT)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_distance_without_its_row_constant_gives_the_same_attention(d: int) -> None:
    x, y = places(23, d), places(19, d, seed=1)
    keys = exact.distance_factors(x, y, form="keys")
    assert keys.rank == d + 1
    assert softmax_gap(dense(keys), dense(exact.distance_factors(x, y))) < TIGHT


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_distance_matrix_has_rank_d_plus_two(d: int) -> None:
    distances = (places(30, d)[:, None] - places(25, d, seed=1)).square().sum(-1)
    assert torch.linalg.matrix_rank(distances) == d + 2


@pytest.mark.parametrize("form", ["each_axis", "minimal"])
def test_distance_weights_count_per_head_and_axis(form: str) -> None:
    x, y, w = places(9, 3), places(7, 3, seed=1), places(4, 3, seed=2).abs()
    bias = exact.distance_factors(x, y, w, form=form)  # type: ignore[arg-type]
    truth = -torch.einsum("ha,nma->hnm", w, (x[:, None] - y).square())
    torch.testing.assert_close(dense(bias)[0], truth, rtol=0, atol=TIGHT)


@given(st.integers(1, 4), st.integers(1, 4))
def test_polynomials_take_one_column_per_power_of_the_shorter_side(p: int, q: int) -> None:
    c, i, j = places(p, q), order(6) / 6, order(5) / 5
    bias = exact.polynomial_factors(c, i, j)
    truth = sum(c[a, b] * i[:, None] ** a * j**b for a in range(p) for b in range(q))
    assert bias.rank == min(p, q)
    torch.testing.assert_close(dense(bias)[0, 0], truth, rtol=0, atol=TIGHT)


@given(st.floats(-3, 3))
def test_cosine_takes_two_columns(frequency: float) -> None:
    i, j = order(12), order(9)
    bias = exact.cosine_factors(frequency, i, j)
    assert bias.rank == 2
    torch.testing.assert_close(dense(bias)[0, 0], (frequency * (i[:, None] - j)).cos(), rtol=0, atol=TIGHT)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_blocks_take_one_column_per_label_of_the_shorter_side(shape: tuple[int, int]) -> None:
    values = places(2 * shape[0], shape[1]).reshape(2, *shape)
    label_q, label_k = torch.arange(11) % shape[0], torch.arange(13) % shape[1]
    bias = exact.block_factors(values, label_q, label_k)
    assert bias.rank == min(shape)
    torch.testing.assert_close(dense(bias)[0], values[:, label_q][:, :, label_k], rtol=0, atol=TIGHT)


def test_tokens_without_a_label_get_no_bias() -> None:
    bias = dense(exact.block_factors(places(2, 2), torch.tensor([0, -1]), torch.tensor([-1, 1])))[0, 0]
    assert bias[1].eq(0).all() and bias[:, 0].eq(0).all() and bias[0, 1] != 0


def test_sums_concatenate_and_products_multiply_columns() -> None:
    i, j = order(8), order(6)
    a, b = exact.cosine_factors(0.4, i, j), exact.linear_factors(exact.alibi_slopes(3), i, j)
    added, multiplied = a + b, exact.product(a, b)
    assert isinstance(added, LowRank) and (added.rank, multiplied.rank) == (4, 4)
    torch.testing.assert_close(dense(added), dense(a) + dense(b), rtol=0, atol=TIGHT)
    torch.testing.assert_close(dense(multiplied), dense(a) * dense(b), rtol=0, atol=TIGHT)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="form='cubic' must be one of"):
        exact.distance_factors(places(2, 2), places(2, 2), form="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heads=0 must be at least 1"):
        exact.alibi_slopes(0)
