"""Lifetimes of keys: the same map as ranking every row, what was dropped stays dropped, and counts without a map."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.layout import Layout
from saccade.papers.dma import Choice, choose_keys, key_lifetimes, key_usage
from saccade.papers.dma.kept_keys import KeptKeys
from saccade.papers.dma.tiles import active_tiles, active_tiles_of, touched

cases = given(
    m=st.integers(1, 40), before=st.integers(0, 39), window=st.integers(1, 45), block=st.integers(1, 9),
    ties=st.booleans(), padded=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip


def made(m: int, before: int, ties: bool, padded: bool, seed: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Scores, padding, and what may be seen by the queries after `before` keys."""
    g = torch.Generator().manual_seed(seed)
    bias = torch.randn(2, 3, m, generator=g)
    keep = torch.rand(2, 1, m, generator=g) < 0.7 if padded else None
    before = min(before, m - 1)
    seen = torch.ones(m - before, m, dtype=torch.bool).tril(before)[None, None]
    return bias.round() if ties else bias, keep, seen if keep is None else seen & keep[:, :, None]


@cases
def test_they_are_the_map_of_rows_ranked_one_by_one(
    m: int, before: int, window: int, block: int, ties: bool, padded: bool, seed: int
) -> None:
    bias, keep, seen = made(m, before, ties, padded, seed)
    n = seen.shape[2]
    found = key_lifetimes(bias, window, queries=n, keep=keep, block=block)
    wanted = choose_keys(bias[:, :, None], seen, window=window).expand(2, 3, n, m)
    assert torch.equal(found.to_map(), wanted)
    assert torch.equal(touched(found), wanted.sum(-1))
    assert torch.equal(active_tiles(found, 4), active_tiles_of(wanted, 4))
    read = found.candidates()
    for number in range(read.shape[2]):
        rows = wanted[:, :, number * block : (number + 1) * block].any(2)
        listed = torch.zeros(2, 3, m + 1, dtype=torch.bool).scatter(2, read[:, :, number] % (m + 1), True)[..., :m]
        assert not (rows & ~listed).any()


@cases
def test_a_key_that_was_dropped_never_comes_back(
    m: int, before: int, window: int, block: int, ties: bool, padded: bool, seed: int
) -> None:
    bias, _, seen = made(m, 0, ties, padded, seed)
    kept = choose_keys(bias[:, :, None], seen, window=window).expand(2, 3, m, m)
    own = torch.arange(m)[:, None] >= torch.arange(m)
    assert not (kept[:, :, 1:] & ~kept[:, :, :-1] & own[:-1]).any()


@cases
def test_as_a_mask_they_are_the_same_map_token_by_token_and_in_blocks(
    m: int, before: int, window: int, block: int, ties: bool, padded: bool, seed: int
) -> None:
    bias, keep, seen = made(m, before, ties, padded, seed)
    n = seen.shape[2]
    found = key_lifetimes(bias, window, queries=n, keep=keep, block=block)
    bound = KeptKeys(found, 2).bind(Layout.plain(n), Layout.plain(m))
    token = bound.token()
    real = torch.ones(2, 1, 1, m, dtype=torch.bool) if keep is None else keep[:, :, None]
    assert torch.equal(token & real, found.to_map().repeat_interleave(2, dim=1))
    assert token.any(-1).all()  # what padding alone closes is left to padding
    blocks = active_tiles_of(token, 8)
    assert torch.equal(bound.block_map(8, 8) > 0, blocks)


@pytest.mark.parametrize("options", [{}, {"select": "relu"}, {"block_size": 3}, {"causal": False}])
@pytest.mark.parametrize("padded", [False, True])
def test_usage_counts_what_is_kept(options: dict, padded: bool) -> None:
    bias = torch.randn(2, 2, 30, generator=torch.Generator().manual_seed(1))
    keep = torch.arange(30) >= torch.tensor([[0], [5]]) if padded else None
    choice = Choice(window=4, **options)
    used = key_usage(choice, bias, mask=keep, tile=8)
    kept = choice.map(bias[:, :, None], 30, keep).expand(2, 2, 30, 30)
    seen = choice.of_all(30).map(bias[:, :, None], 30, keep).expand(2, 2, 30, 30)
    assert torch.equal(used.touched, kept.sum(-1)) and torch.equal(used.active, active_tiles_of(kept, 8))
    assert used.pairs == seen.sum() and used.density == pytest.approx(float(kept.sum() / seen.sum()))
    assert used.tiles[0] <= used.tiles[1] == 16 and "keys a query" in str(used)
    if not options:
        assert used.touched.max() <= 4


def test_selecting_for_a_long_text_holds_no_map_of_pairs() -> None:
    found = key_lifetimes(torch.randn(1, 1, 1 << 14, generator=torch.Generator().manual_seed(0)), 64)
    assert touched(found).max() == 64 and found.alive.numel() == (1 << 14)
