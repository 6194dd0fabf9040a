"""Theorems as inequalities on random maps, exact values of content that is all alike, and bad input."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.position_bias import (
    Causal,
    FallingShare,
    Full,
    Prefix,
    Window,
    alibi_slopes,
    attention_map,
    crossover_depth,
    front_row,
    peak_distance,
    position_profile,
    rollout,
    rotary_scores,
    slope_of,
)
from saccade.papers.position_bias.theory import (
    causal_bound,
    decay_bracket,
    decay_law,
    depth_bracket,
    kept_by_itself,
    least_entry,
    prefix_limit,
    rotary_bracket,
    rotary_law,
    window_bound,
    window_drift,
)

FREE = attention_map(8)


def content(bound: float, layers: int, n: int, seed: int = 0) -> Tensor:
    drawn = torch.rand(layers, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return bound * (2 * drawn - 1)


def test_all_alike_under_a_causal_mask() -> None:
    torch.testing.assert_close(FREE, torch.ones(8, 8).tril().double() / torch.arange(1, 9)[:, None])
    found = torch.linalg.eigvals(FREE).real.sort(descending=True).values
    torch.testing.assert_close(found, 1 / torch.arange(1, 9).double(), rtol=1e-6, atol=1e-9)
    mass = [float(rollout([FREE] * n)[-1, 0]) for n in (1, 2, 4, 16)]
    assert [round(m, 4) for m in mass] == [0.125, 0.3397, 0.7275, 0.9999]
    twice = rollout([FREE] * 2)
    for i in range(1, 9):
        for j in range(1, i + 1):
            assert float(twice[i - 1, j - 1]) == pytest.approx(sum(1 / k for k in range(j, i + 1)) / i)
    for n in (2, 3, 9):
        assert (rollout([FREE] * n).diff(dim=1) <= 1e-15).all()


@pytest.mark.parametrize("width", [2, 3, 5, 7])
def test_windows(width: int) -> None:
    values = torch.linalg.eigvals(attention_map(8, Window(width=width))).real.sort(descending=True).values
    assert float(values[1]) == pytest.approx(0.5, abs=1e-2 if width == 2 else 1e-6)  # a defective matrix at width 2


def test_masks_meet_where_they_must() -> None:
    drawn = content(2, 1, 8)[0]
    causal = attention_map(8, scores=drawn)
    for graph in (Window(width=8), Window(width=99), Prefix(length=1)):
        assert torch.equal(attention_map(8, graph, scores=drawn), causal)
    assert torch.equal(attention_map(8, Window(width=1), scores=drawn), torch.eye(8).double())
    assert torch.equal(attention_map(8, Prefix(length=8), scores=drawn), attention_map(8, Full(), scores=drawn))
    limit = rollout([attention_map(8, Prefix(length=8))] * 30)
    torch.testing.assert_close(limit, torch.full((8, 8), 1 / 8).double())


def test_centres_reach_all() -> None:
    for graph in (Causal(), Window(width=3), Window(width=1), Prefix(length=3), Full()):
        reach = torch.linalg.matrix_power(graph.allowed(7).double(), 7) > 0
        assert graph.centres(7) == tuple(j for j in range(7) if reach[:, j].all())


@pytest.mark.parametrize("seed", range(3))
def test_t1_a_causal_mask_collapses_at_the_rate(seed: int) -> None:
    n, bound = 10, 0.7
    maps = attention_map(n, scores=content(bound, 400, n, seed))
    eps = least_entry(bound, n)
    assert maps[:, torch.ones(n, n).tril().bool()].min() >= eps
    for layers in (1, 5, 40, 400):
        found = rollout(maps[:layers])
        assert (found[:, 1:] <= causal_bound(n, eps, layers)[1:] + 1e-12).all()
    assert (found[:, 0] > 0.999).all()


def test_t2_a_window_collapses_slower_and_drifts() -> None:
    n, bound, width = 6, 0.3, 3
    maps = attention_map(n, Window(width=width), scores=content(bound, 60, n))
    for layers in (1, 10, 60):
        assert (rollout(maps[:layers]) <= window_bound(n, width, least_entry(bound, width), layers) + 1e-12).all()
    assert rollout(maps)[-1, 0] < rollout(attention_map(n, scores=content(bound, 60, n)))[-1, 0]
    row = front_row(400, 12, Window(width=9))
    back = float(row @ (399 - torch.arange(400.0).double()))
    assert back == pytest.approx(window_drift(9, 12))
    assert float(front_row(24, 400, Window(width=3))[0]) > 0.999


def test_t3_a_prefix_shares_the_mass() -> None:
    torch.testing.assert_close(front_row(9, 300, Prefix(length=3)), prefix_limit(9, 3))
    found = rollout(attention_map(9, Prefix(length=3), scores=content(0.5, 300, 9)))
    assert found[:, :3].sum(1).min() > 0.999 and found[:, :3].min() > 0.1


@given(st.floats(0.05, 3), st.floats(0, 1.5))
def test_t4_one_layer_decays(slope: float, bound: float) -> None:
    found = attention_map(12, slope=slope, scores=content(bound, 1, 12)[0])
    i, j = torch.tril_indices(12, 12)
    low, high = decay_bracket(i - j, slope, bound)
    assert (found[i, j] >= low * (1 - 1e-9)).all() and (found[i, j] <= high * (1 + 1e-9)).all()


@given(st.floats(0, 2), st.floats(0, 1), st.integers(1, 6))
def test_t5_content_lies_within_the_bracket(slope: float, bound: float, layers: int) -> None:
    found = rollout(attention_map(9, slope=slope, scores=content(bound, layers, 9)))
    low, high = depth_bracket(attention_map(9, slope=slope), bound, layers)
    assert (found >= low * (1 - 1e-9)).all() and (found <= high * (1 + 1e-9)).all()


@pytest.mark.parametrize("layers", [1, 2, 5, 9])
def test_t5_far_from_the_first_token_it_is_negative_binomial(layers: int) -> None:
    d = torch.arange(200)
    torch.testing.assert_close(
        front_row(400, layers, slope=0.5).flip(0)[:200], decay_law(d, 0.5, layers), rtol=0, atol=1e-9
    )


def test_t5_the_peak_is_where_the_formula_says_until_the_edge_takes_over() -> None:
    layers, slope = (1, 2, 3, 4, 6, 8, 12, 16, 24), 0.5
    found = [int(front_row(64, n, slope=slope).flip(0).argmax()) for n in layers]
    assert found == [0, 1, 3, 4, 7, 10, 16, 23, 35] == [peak_distance(n, slope) for n in layers]
    assert int(front_row(64, 32, slope=slope).argmax()) == 0 and peak_distance(32, slope) == 47
    turn = crossover_depth(63, slope)
    assert peak_distance(math.floor(turn), slope) < 63 <= peak_distance(math.ceil(turn), slope)


def test_decay_meets_its_ends() -> None:
    drawn = content(1, 1, 9)[0]
    torch.testing.assert_close(attention_map(9, slope=1e-12, scores=drawn), attention_map(9, scores=drawn))
    torch.testing.assert_close(attention_map(9, slope=1e4, scores=drawn), torch.eye(9).double())
    assert slope_of(1.0) == 0 and slope_of(math.exp(-0.3)) == pytest.approx(0.3)
    assert alibi_slopes(4) == (0.25, 0.0625, 0.015625, 0.00390625)


def alike(n: int, d: int, size: float = 1.0) -> Tensor:
    return torch.full((n, d), size, dtype=torch.float64)


@given(st.floats(0.01, math.pi / 11), st.floats(0.1, 3))
def test_t6_one_pair_within_the_bracket(theta: float, size: float) -> None:
    x = alike(12, 2, size)
    found = attention_map(12, scores=rotary_scores(x, x, theta=[theta]))
    scale, back = size**2 * 2 / 2**0.5, torch.arange(12)
    low, high = rotary_bracket(scale, back.flip(0) * theta)
    ratio = found[-1] / found[-1, -1]
    assert (ratio >= low * (1 - 1e-9)).all() and (ratio <= high * (1 + 1e-9)).all()


def test_t6_no_angle_is_no_position_and_a_larger_base_decays_less() -> None:
    q, k = content(1, 2, 8)[:, :, :6]
    none = attention_map(8, scores=rotary_scores(q, k, theta=[0, 0, 0]))
    torch.testing.assert_close(none, attention_map(8, scores=q @ k.mT / 6**0.5))
    x = alike(64, 16, 2.0)
    maps = [attention_map(64, scores=rotary_scores(x, x, base=base)) for base in (1e2, 1e4, 1e6)]
    early = [position_profile(rollout([one] * 4)[-1]).early_bias for one in maps]
    assert all(a < b for a, b in pairwise(early))


def test_t6_beyond_half_a_turn_a_larger_base_may_favour_early_tokens_less() -> None:
    x = alike(64, 4, 2.0)
    small, large = (rollout([attention_map(64, scores=rotary_scores(x, x, base=base))] * 4) for base in (1e2, 1e4))
    assert small[-1, 0] > large[-1, 0] + 0.1


def test_t6_in_depth_ways_against_a_bell() -> None:
    d, theta = torch.arange(120), 0.05
    law = rotary_law(d, theta, 6)
    for back in (1, 7, 44):
        wanted = math.comb(5 + back, back) * math.exp(-0.5 * (back * theta) ** 2)
        assert float(law[back] / law[0]) == pytest.approx(wanted)
    assert float(law.sum()) == pytest.approx(1)
    assert int(law.argmax()) == 43 and int(rotary_law(d, theta, 1).argmax()) == 0  # near (5 / theta^2)^(1/2)


def test_r1_a_summable_residual_does_not_collapse() -> None:
    n, layers = 24, 400
    falling = FallingShare(first=0.5, power=2)
    row = front_row(n, layers, residual=falling)
    assert (round(float(row[-1]), 2), round(float(row[0]), 2)) == (0.38, 0.05)
    assert row[-1] > row[1:-1].max() and row[0] > row[1:-1].max()
    share = 0.5 / torch.arange(1, layers + 1).double() ** 2
    kept = kept_by_itself((1 / torch.arange(1.0, n + 1).double()).expand(layers, n), share)
    assert float(kept[-1]) == pytest.approx(float(row[-1]))
    whole, slower = (float(front_row(n, 6, residual=share)[0]) for share in (1.0, 0.5))
    assert slower < whole and float(front_row(n, 400, residual=0.5)[0]) > 0.999


def test_gradients_pass_through_a_rollout() -> None:
    drawn = content(1, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: rollout(attention_map(4, slope=0.2, scores=s), residual=0.5), drawn)


def test_bad_input_is_refused() -> None:
    for call, message in (
        (lambda: attention_map(4, slope=-0.1), "slope=-0.1 must be a finite number of at least 0"),
        (lambda: attention_map(4, slope=math.inf), "slope=inf must be"),
        (lambda: attention_map(2, scores=torch.full((2, 2), torch.nan)), "scores holds NaN"),
        (lambda: slope_of(0), r"gamma=0 must be in \(0, 1\]"),
        (lambda: slope_of(1.1), "gamma=1.1 must be in"),
        (lambda: Window(width=0), "width=0 must be a whole number of at least 1"),
        (lambda: Prefix(length=0), "length=0 must be"),
        (lambda: Prefix(length=5).allowed(4), "length=5 of the prefix is above the 4 tokens"),
        (lambda: front_row(4, 2, Prefix(length=5)), "length=5 of the prefix"),
        (lambda: front_row(4, 2, Full(), slope=0.1), "slope=0.1 is for causal and window masks"),
        (lambda: rotary_scores(alike(3, 5), alike(3, 5)), "width=5 of rotary heads must be even"),
        (lambda: rotary_scores(alike(3, 4), alike(3, 4), theta=[1]), "theta has 1 angles for 2 pairs"),
        (lambda: rotary_scores(alike(3, 4), alike(3, 4), base=0), "base=0 must be above 0"),
        (lambda: rotary_bracket(1, torch.tensor([4.0])), r"angle reaches from 4 to 4; the bracket is for \[0, pi\]"),
        (lambda: peak_distance(3, 0), "slope=0 has no peak"),
        (lambda: decay_law(torch.arange(3), 0, 2), "slope=0 is no decay"),
        (lambda: window_bound(4, 1, 0.1, 2), "width=1 lets a token see itself alone"),
        (lambda: alibi_slopes(0), "heads=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
