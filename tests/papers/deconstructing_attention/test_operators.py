"""Every operator against a plain float64 rewrite; recurrent forms against parallel ones; the laws of the paper."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.deconstructing_attention.operators import (
    OPERATORS,
    KeysValues,
    approx,
    borrowed_qk,
    check_reading,
    softmax_map,
)
from saccade.papers.deconstructing_attention.position_scores import prefix_map, prefix_softmax, scores
from saccade.papers.deconstructing_attention.taylor import (
    away_from_zero,
    features,
    per_order_map,
    series,
    taylor_map,
)


def operands(n: int = 13, e: int = 4, rows: int = 2, heads: int = 3, seed: int = 0, size: float = 1.0) -> list[Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return [size * torch.randn(rows, heads, n, e, generator=noise, dtype=torch.float64) for _ in range(3)]


def positive(x: Tensor) -> Tensor:
    """Away from the zeros of first-order sums."""
    return x.abs() + 0.1


def inputs(name: str, **options: int) -> list[Tensor]:
    q, k, v = operands(**options)
    if name == "borrowed_qk":
        return [q[:1], k[:1], v]
    return [positive(q), positive(k), v] if name == "per_order" else [q, k, v]


def run(name: str, *given: Any, **options: Any) -> tuple[Tensor, Any]:
    return OPERATORS[name].run(*given, **options)


def by_hand(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One output at a time."""
    n, e = q.shape
    out = torch.zeros_like(v)
    for i in range(n):
        x = torch.stack([q[i] @ k[j] for j in range(i + 1)]) / math.sqrt(e)
        match name:
            case "taylor":
                w = 1 + x + x**2 / 2
                out[i] = (w / w.sum()) @ v[: i + 1]
            case "per_order":
                squares = torch.stack([(q[i] ** 2) @ (k[j] ** 2) for j in range(i + 1)]) / 2
                for w in (torch.ones_like(x), x * math.sqrt(e), squares):
                    out[i] += (w / w.sum()) @ v[: i + 1]
            case "nonapprox":
                s = torch.stack([q[j] @ k[j] for j in range(i + 1)]) / math.sqrt(e)
                out[i] = s.softmax(0) @ v[: i + 1]
            case _:
                out[i] = x.softmax(0) @ v[: i + 1]
    return out


@pytest.mark.parametrize("name", OPERATORS)
def test_equals_one_output_at_a_time(name: str) -> None:
    q, k, v = inputs(name)
    out, _ = run(name, q, k, v)
    for row in range(len(v)):
        for head in range(v.shape[1]):
            sides = (each[min(row, len(each) - 1), head] for each in (q, k))
            torch.testing.assert_close(out[row, head], by_hand(name, *sides, v[row, head]))


@pytest.mark.parametrize("name", OPERATORS)
def test_map_times_values_is_the_output(name: str) -> None:
    q, k, v = inputs(name)
    torch.testing.assert_close(OPERATORS[name].map(q, k) @ v, run(name, q, k, v)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", OPERATORS)
@given(cuts=st.lists(st.integers(1, 12), max_size=4, unique=True).map(sorted))
def test_pieces_equal_the_whole(name: str, cuts: list[int]) -> None:
    q, k, v = inputs(name)
    whole, _ = run(name, q, k, v)
    state, outs = None, []
    for a, b in zip([0, *cuts], [*cuts, q.shape[2]], strict=True):
        out, state = run(name, q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], state)
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, dim=2), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_token_by_token_equals_the_whole_with_gradients(name: str) -> None:
    q, k, v = (each.requires_grad_() for each in inputs(name, n=7))
    whole, _ = run(name, q, k, v)
    wanted = torch.autograd.grad(whole.square().sum(), (q, k, v))
    state, outs = None, []
    for i in range(7):
        out, state = run(name, q[:, :, i : i + 1], k[:, :, i : i + 1], v[:, :, i : i + 1], state)
        outs.append(out)
    found = torch.autograd.grad(torch.cat(outs, dim=2).square().sum(), (q, k, v))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OPERATORS)
def test_no_output_sees_what_is_ahead(name: str) -> None:
    q, k, v = inputs(name)
    before, _ = run(name, q, k, v)
    for each in (q, k, v):
        each[:, :, 8:] = each[:, :, 8:] * 1.7 + 0.3
    after, _ = run(name, q, k, v)
    torch.testing.assert_close(after[:, :, :8], before[:, :, :8], rtol=0, atol=1e-12)
    assert (after[:, :, 8:] - before[:, :, 8:]).abs().min(-1).values.max() > 1e-3


def test_longer_than_the_features_goes_in_pieces() -> None:
    q, k, v = operands(n=21, e=3)  # pieces of nine
    torch.testing.assert_close(approx(q, k, v, remember=False)[0], taylor_map(q, k) @ v, rtol=0, atol=1e-12)
    assert approx(q[:, :, :9], k[:, :, :9], v[:, :, :9], remember=False)[1] is None


@given(st.floats(-1e3, 1e3))
def test_series_is_at_least_a_half(x: float) -> None:
    assert float(series(torch.tensor(x, dtype=torch.float64))) >= 0.5


def test_features_multiply_to_the_series() -> None:
    q, k, _ = operands(e=8)
    assert features(q).shape[-1] == 73
    torch.testing.assert_close(features(q) @ features(k).mT, series(q @ k.mT / math.sqrt(8)), rtol=1e-12, atol=1e-12)


def test_taylor_rows_sum_to_one_and_small_scores_are_softmax() -> None:
    q, k, _ = operands(size=0.01)
    torch.testing.assert_close(taylor_map(q, k).sum(-1), torch.ones(2, 3, 13, dtype=torch.float64), rtol=0, atol=1e-12)
    scale = 3e-4 / float((q @ k.mT).abs().max() / math.sqrt(4))
    apart = (taylor_map(q * scale, k) - softmax_map(q * scale, k)).abs().max()
    assert apart < 1e-12 and float((taylor_map(q * 100, k) - softmax_map(q * 100, k)).abs().max()) > 1e-6


def test_per_order_rows_sum_to_three() -> None:
    q, k, _ = inputs("per_order")
    torch.testing.assert_close(per_order_map(q, k).sum(-1), torch.full((2, 3, 13), 3.0, dtype=torch.float64))


def test_sums_near_zero_keep_their_sign_and_warn() -> None:
    x = torch.tensor([0.0, -1e-9, 1e-9, -2.0, 3.0])
    with pytest.warns(UserWarning, match="came within 1e-06 of zero and were kept there; reading='taylor' cannot"):
        found = away_from_zero(x)
    torch.testing.assert_close(found, torch.tensor([1e-6, -1e-6, 1e-6, -2.0, 3.0]))
    q, k, v = operands(n=3)
    with pytest.warns(UserWarning, match="kept there"):
        out, _ = approx(torch.zeros_like(q), k, v, reading="per_order")
    assert out.isfinite().all()


def test_ratios_of_weights_are_the_same_in_every_row() -> None:
    s = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = prefix_map(s)
    ratio = weights[:, :, 0] / weights[:, :, 1]
    torch.testing.assert_close(ratio[:, 1:], ratio[:, 1:2].expand(-1, 8), rtol=1e-10, atol=0)


def test_the_logarithm_of_the_sum_rises() -> None:
    s = torch.randn(1, 2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.randn(1, 2, 40, 3, dtype=torch.float64)
    sums = torch.stack([prefix_softmax(s[..., :n], v[:, :, :n], piece=7)[1].lse for n in range(1, 41)])
    assert (sums.diff(dim=0) > 0).all()


def test_turning_both_sides_changes_no_score() -> None:
    from saccade.nn.positions import rotary_table, rotate

    q, k, _ = operands()
    table = rotary_table(torch.arange(13.0)[:, None], (4,))
    torch.testing.assert_close(scores(rotate(q, table), rotate(k, table)), scores(q, k), rtol=1e-6, atol=1e-6)


def test_huge_scores_stay_finite_in_single_precision() -> None:
    s = torch.tensor([[[-1e4, 1e4, -1e4, 5e3, 2e4]]])
    v = torch.arange(10.0).view(1, 1, 5, 2)
    out, state = prefix_softmax(s.requires_grad_(), v, piece=2)
    torch.testing.assert_close(out[0, 0], v[0, 0][[0, 1, 1, 1, 4]])
    out.sum().backward()
    assert s.grad is not None and s.grad.isfinite().all() and float(state.lse.detach()) == 2e4


def test_states_are_as_wide_as_they_say() -> None:
    heads = 2 * 3
    sizes = {name: sum(each.numel() for each in run(name, *inputs(name, e=5))[1]) for name in OPERATORS}
    assert sizes["nonapprox"] == heads * (5 + 1)
    assert sizes["taylor"] == heads * (1 + 5 + 25) * (5 + 1)
    assert sizes["per_order"] == heads * (3 * 5 + 2 * 25) + 1  # and how many there were
    assert sizes["borrowed_qk"] == (1 + 2) * 3 * 13 * 5  # keys of one row, values of two


def test_one_row_of_queries_serves_all_rows_of_values() -> None:
    q, k, v = operands(rows=3)
    out, state = borrowed_qk(q[:1, :, :9], k[:1, :, :9], v[:, :, :9])
    more, state = borrowed_qk(q[:1, :, 9:], k[:1, :, 9:], v[:, :, 9:], state)
    torch.testing.assert_close(torch.cat((out, more), dim=2), softmax_map(q[:1], k[:1]) @ v, rtol=0, atol=1e-12)
    assert isinstance(state, KeysValues) and len(state.k) == 1 and len(state.v) == 3


def test_half_precision_is_summed_in_single() -> None:
    for name in ("taylor", "per_order", "nonapprox"):
        half = [each.bfloat16() for each in inputs(name, n=300, rows=1)]
        out, wanted = run(name, *half)[0], run(name, *(each.double() for each in half))[0]
        assert out.dtype == torch.bfloat16 and float((out - wanted).abs().max()) < 0.06, name


def test_messages() -> None:
    with pytest.raises(ValueError, match="reading='exact' must be one of taylor, per_order"):
        check_reading("exact")
    with pytest.raises(ValueError, match="s holds no position; give at least one"):
        prefix_softmax(torch.zeros(1, 1, 0), torch.zeros(1, 1, 0, 2))
    with pytest.raises(ValueError, match="reading='per_order' takes no padding"):
        approx(*inputs("per_order"), reading="per_order", there=torch.ones(2, 13, dtype=torch.bool))


@pytest.mark.parametrize("name", ["taylor", "nonapprox"])
def test_padding_on_the_left_is_not_seen(name: str) -> None:
    q, k, v = inputs(name)
    there = torch.arange(13).expand(2, -1) >= torch.tensor([[4], [0]])
    v[0, :, :4] = torch.nan  # whatever stands there
    out, state = run(name, q[:, :, :9], k[:, :, :9], v[:, :, :9], there=there[:, :9])
    assert out.isfinite().all() and all(each.isfinite().all() for each in state)
    more, _ = run(name, q[:, :, 9:], k[:, :, 9:], v[:, :, 9:], state, there=there[:, 9:])
    wanted, _ = run(name, *(each[:1, :, 4:] for each in (q, k, v)))
    torch.testing.assert_close(torch.cat((out, more), dim=2)[:1, :, 4:], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_maps_without_a_past_see_all(name: str) -> None:
    q, k, _ = inputs(name)
    whole, causal = OPERATORS[name].map(q, k, causal=False), OPERATORS[name].map(q, k)
    torch.testing.assert_close(whole[..., -1, :], causal[..., -1, :])
    assert (whole[..., 0, 1:] > 0).all() and not causal[..., 0, 1:].any()
    if name == "nonapprox":
        assert bool((whole == whole[..., :1, :]).all())
