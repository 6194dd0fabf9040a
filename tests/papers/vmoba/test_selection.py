"""Which pairs are kept, against a choice made pair by pair."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.vmoba.partition import Box, Frames, chunks
from saccade.papers.vmoba.selection import Scope, Threshold, TopK, choose_pairs, gates, mean_keys
from tests.papers.vmoba import reference

SCOPES: tuple[Scope, ...] = get_args(Scope)
every_scope = pytest.mark.parametrize("scope", SCOPES)


def own_of(chunk_count: int, queries: int) -> Tensor:
    """Chunks as equal as they come, the last of them short."""
    return torch.arange(queries) // -(-queries // chunk_count) == torch.arange(chunk_count)[:, None]


def random_gates(c: int, s: int, *, b: int = 1, h: int = 2, seed: int = 0, whole: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    if whole:  # many ties, and sums without rounding
        return torch.randint(-4, 5, (b, h, c, s), generator=g).double()
    return torch.randn(b, h, c, s, generator=g, dtype=torch.float64)


def kept(chosen: Tensor) -> set[tuple[int, ...]]:
    return {tuple(at) for at in chosen.nonzero().tolist()}


@every_scope
@pytest.mark.parametrize("forced", [True, False])
@settings(max_examples=30)
@given(
    c=st.integers(2, 5), s=st.integers(5, 9), tau=st.floats(0.01, 0.99), seed=st.integers(0, 99), whole=st.booleans()
)
def test_the_fewest_pairs_that_reach_the_share(
    scope: Scope, forced: bool, c: int, s: int, tau: float, seed: int, whole: bool
) -> None:
    gate, own = random_gates(c, s, seed=seed, whole=whole), own_of(c, s)
    found = choose_pairs(gate, own, Threshold(tau=tau, scope=scope, forced_own=forced))[0]
    expected = set[tuple[int, ...]]()
    for pairs in reference.groups(scope, 2, c, s):
        expected |= reference.kept_by_sum(gate[0], own, pairs, tau, forced)
    assert kept(found) == expected


@every_scope
@settings(max_examples=30)
@given(c=st.integers(2, 5), each=st.integers(1, 3), k=st.integers(1, 7), seed=st.integers(0, 99), whole=st.booleans())
def test_own_pairs_and_then_the_best(scope: Scope, c: int, each: int, k: int, seed: int, whole: bool) -> None:
    s = c * each
    gate, own = random_gates(c, s, seed=seed, whole=whole), own_of(c, s)
    found = choose_pairs(gate, own, TopK(k=k, scope=scope))[0]
    expected, count = set[tuple[int, ...]](), min(k, c)
    for pairs in reference.groups(scope, 2, c, s):
        expected |= reference.kept_by_number(gate[0], own, pairs, len(pairs) * count // c)
    assert kept(found) == expected
    assert (found | ~own).all()


@every_scope
@given(c=st.integers(1, 6), s=st.integers(1, 13), seed=st.integers(0, 9))
def test_one_block_is_a_tokens_own_and_all_blocks_are_all(scope: Scope, c: int, s: int, seed: int) -> None:
    gate, own = random_gates(c, s, seed=seed), own_of(c, s)
    used = own[own.any(1)]
    gate = gate[:, :, own.any(1)]
    one = choose_pairs(gate, used, TopK(k=1, scope=scope))
    assert torch.equal(one, used.expand_as(one))
    for rule in (TopK(k=len(used), scope=scope), TopK(k=99, scope=scope), Threshold(tau=1, scope=scope)):
        assert choose_pairs(gate, used, rule).all()


def test_the_worked_example() -> None:
    gate = torch.tensor([[4, 1, 0], [2, 3, 1], [0, 2.5, 5]])[None, None]
    own = torch.eye(3, dtype=torch.bool)

    def besides(tau: float) -> set[tuple[int, ...]]:
        return kept((choose_pairs(gate, own, Threshold(tau=tau)) & ~own)[0, 0])

    assert besides(0.25) == {(2, 1)}
    assert besides(0.75) == {(2, 1)}
    assert besides(0.85) == {(2, 1), (1, 0)}
    assert kept(choose_pairs(gate, own, Threshold(tau=0.25, forced_own=False))[0, 0]) == {(2, 2)}


@every_scope
@given(c=st.integers(2, 6), s=st.integers(6, 30), tau=st.floats(0.01, 1), seed=st.integers(0, 99), whole=st.booleans())
def test_shares_kept_are_bounded(scope: Scope, c: int, s: int, tau: float, seed: int, whole: bool) -> None:
    gate, own = random_gates(c, s, seed=seed, whole=whole), own_of(c, s)
    free = choose_pairs(gate, own, Threshold(tau=tau, scope=scope, forced_own=False)).double()
    assert choose_pairs(gate, own, Threshold(tau=tau, scope=scope)).double().mean() >= 1 / c
    for pairs in reference.groups(scope, 2, c, s):
        count = sum(free[0][p].item() for p in pairs)
        assert count / len(pairs) <= tau + 1 / len(pairs) + 1e-9


@pytest.mark.parametrize("tau", [0.15, 0.25, 0.35, 0.5])
def test_less_than_the_share_of_the_sum_is_kept(tau: float) -> None:
    gate = random_gates(24, 240)
    assert choose_pairs(gate, own_of(24, 240), Threshold(tau=tau, forced_own=False)).double().mean() < tau


def test_gates_all_alike_keep_their_share() -> None:
    gate, own = torch.full((1, 1, 4, 8), 3.0), own_of(4, 8)
    found = choose_pairs(gate, own, Threshold(tau=0.25, forced_own=False))[0, 0]
    assert kept(found) == {(0, s) for s in range(8)}  # a quarter of 32, the earlier first


@every_scope
@pytest.mark.parametrize("forced", [True, False])
@given(seed=st.integers(0, 99), low=st.floats(0.01, 0.99), high=st.floats(0.01, 1))
def test_a_larger_share_keeps_what_a_smaller_one_did(
    scope: Scope, forced: bool, seed: int, low: float, high: float
) -> None:
    gate, own = random_gates(4, 9, seed=seed), own_of(4, 9)
    few, many = (
        choose_pairs(gate, own, Threshold(tau=tau, scope=scope, forced_own=forced)) for tau in sorted((low, high))
    )
    assert (many | ~few).all()


@every_scope
@given(seed=st.integers(0, 99), factor=st.integers(1, 9), shift=st.integers(-50, 50), tau=st.floats(0.01, 0.99))
def test_an_affine_change_changes_nothing(scope: Scope, seed: int, factor: int, shift: int, tau: float) -> None:
    gate, own = random_gates(4, 9, seed=seed, whole=True), own_of(4, 9)
    for rule in (Threshold(tau=tau, scope=scope), TopK(k=2, scope=scope)):
        assert torch.equal(choose_pairs(factor * gate + shift, own, rule), choose_pairs(gate, own, rule))


@every_scope
@given(seed=st.integers(0, 99), tau=st.floats(0.01, 0.99), k=st.integers(1, 4))
def test_samples_do_not_compete(scope: Scope, seed: int, tau: float, k: int) -> None:
    gate, own = random_gates(4, 9, b=2, seed=seed) * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1), own_of(4, 9)
    for rule in (Threshold(tau=tau, scope=scope), TopK(k=k, scope=scope)):
        both = choose_pairs(gate, own, rule)
        assert torch.equal(both, torch.cat([choose_pairs(one, own, rule) for one in gate.split(1)]))


def test_ties_go_to_the_earlier_chunk_then_query() -> None:
    gate, own = torch.zeros(1, 1, 3, 4), torch.zeros(3, 4, dtype=torch.bool)
    gate[..., 0] = 1
    gate[0, 0, 2, 1] = 1
    assert kept(choose_pairs(gate, own, Threshold(tau=0.5, forced_own=False))[0, 0]) == {(0, 0), (1, 0)}


@given(seed=st.integers(0, 99), ratio=st.integers(1, 2))
def test_gates_are_products_with_mean_keys(seed: int, ratio: int) -> None:
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(2, 2 * ratio, 24, 5, generator=g, dtype=torch.float64)
    k = torch.randn(2, 2, 24, 5, generator=g, dtype=torch.float64)
    for blocks, sizes in ((Frames(0.8), (0.8,)), (Box(2, 1, 3), (2, 1, 3))):
        label = reference.labels(sizes, (4, 2, 3))
        found = gates(q, mean_keys(k, chunks(blocks, (4, 2, 3), k.device)))
        for row in range(2):
            expected = reference.gates(q[row], k[row].repeat_interleave(ratio, 0), label)
            torch.testing.assert_close(found[row], expected, atol=1e-12, rtol=0)


def test_means_are_taken_in_single_precision_and_leave_padding_out() -> None:
    k = torch.full((1, 1, 24, 2), 1.0, dtype=torch.bfloat16)
    k[:, :, 1] = 1.0078125  # would be lost in a sum of bfloat16
    parts = chunks(Frames(4), (4, 2, 3), k.device)
    found = mean_keys(k, parts)
    assert found.dtype == torch.float32 and found[0, 0, 0, 0] == pytest.approx((23 + 1.0078125) / 24)
    keep = torch.arange(24)[None] == 1
    assert mean_keys(k, parts, keep)[0, 0, 0, 0] == 1.0078125


@pytest.mark.bad_input
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_gates_without_a_rank_are_refused(value: float) -> None:
    gate = random_gates(3, 6)
    gate[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="gates hold NaN or infinity, which has no rank; the host's queries or keys"):
        choose_pairs(gate, own_of(3, 6), Threshold(tau=0.5))
