"""The choice of keys: against rows chosen one by one, its laws, the official masks, and what is refused."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.dma import choose_keys
from saccade.papers.dma.selection import as_map
from tests.papers.dma import reference


def drawn(b: int, g: int, n: int, m: int, seed: int, ties: bool = False) -> tuple[Tensor, Tensor]:
    g_ = torch.Generator().manual_seed(seed)
    bias = torch.randn(b, g, n, m, generator=g_, dtype=torch.float64)
    visible = torch.rand(b, 1, n, m, generator=g_) < 0.7
    return (bias.round() if ties else bias), visible


@given(
    n=st.integers(1, 5), m=st.integers(1, 14), window=st.integers(1, 16), size=st.integers(1, 6), ties=st.booleans(),
    select=st.sampled_from(["topk", "relu"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_row_is_the_row_chosen_by_hand(
    n: int, m: int, window: int, size: int, ties: bool, select: Any, seed: int
) -> None:
    bias, visible = drawn(2, 2, n, m, seed, ties)
    found = choose_keys(bias, visible, window=window, select=select, block_size=size)
    for at in torch.cartesian_prod(*map(torch.arange, (2, 2, n))).tolist():
        row, seen = bias[tuple(at)].tolist(), visible[at[0], 0, at[2]].tolist()
        flags = reference.kept(row, seen, window)
        if select == "relu":
            flags = [x > 0 and each for x, each in zip(row, seen, strict=True)]
        if size > 1:
            flags = reference.smoothed(flags, seen, size)
        assert found[tuple(at)].tolist() == flags


@given(m=st.integers(1, 20), window=st.integers(1, 24), shift=st.floats(-3, 3), seed=st.integers(0, 99))
def test_rows_keep_what_they_may_and_a_constant_changes_nothing(m: int, window: int, shift: float, seed: int) -> None:
    bias, visible = drawn(1, 2, 3, m, seed)
    kept = choose_keys(bias, visible, window=window)
    assert torch.equal(kept.sum(-1), visible.sum(-1).clamp(max=window).expand(1, 2, 3))
    assert not (kept & ~visible).any()
    assert torch.equal(kept, choose_keys(bias + round(shift * 4) / 4, visible, window=window))


def test_equal_scores_keep_the_latest() -> None:
    kept = choose_keys(torch.zeros(1, 1, 1, 6), torch.tensor([1, 1, 1, 1, 0, 0]).bool()[None, None, None], window=2)
    assert kept[0, 0, 0].tolist() == [False, False, True, True, False, False]


def test_a_run_crossing_the_diagonal_opens_later_keys_only_in_the_official_form() -> None:
    visible = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    bias = torch.arange(6.0).expand(1, 1, 1, 6)
    options: dict[str, Any] = {"window": 4, "block_size": 3}
    ours, theirs = (choose_keys(bias, visible, **options, compat=compat) for compat in (None, "official"))
    assert not (ours & ~visible).any() and (theirs & ~visible).any()
    assert torch.equal(ours, theirs & visible)


def test_the_last_run_of_a_text_that_grows_needs_as_many_as_a_whole_one() -> None:
    bias = torch.arange(5.0).expand(1, 1, 1, 5)
    found = [choose_keys(bias, window=2, block_size=4, grows=grows)[0, 0, 0].tolist() for grows in (False, True)]
    assert found == [[False, False, False, False, True], [False] * 5]


def test_padding_counts_from_the_end_where_flags_are_of_the_queries() -> None:
    flags = torch.tensor([[True, False]])
    assert as_map(flags, 2, 5)[0, 0, 0].tolist() == [True, True, True, True, False]
    assert as_map(torch.eye(5, dtype=torch.bool)[:1], 2, 5)[0, 0, 0].tolist() == [True, False, False, False, False]
    low = torch.finfo(torch.float32).min
    assert as_map(torch.tensor([[0.0, low, -torch.inf]]), 2, 3)[0, 0, 0].tolist() == [True, False, False]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0 must be a whole number of at least 1"),
        ({"window": 2.5}, "window=2.5 must be a whole number"),
        ({"block_size": 0}, "block_size=0 must be a whole number of at least 1"),
        ({"select": "softmax"}, "select='softmax' is unknown; choose one of topk, relu"),
        ({"visible": torch.ones(1, 5)}, "mask has numbers other than 0 and the lowest of its type; give a boolean one"),
        ({"visible": torch.ones(1, 6).int()}, "mask has dtype torch.int32; it must be boolean, or floating"),
        ({"visible": torch.ones(1, 4).bool()}, r"mask \(1, 4\) must be \(batch, 6\), a flag for each key, or \(batch"),
        ({"visible": torch.ones(1, 1, 3, 5).bool()}, r"mask \(1, 1, 3, 5\) must be \(batch, 6\), .* or a map"),
        ({"visible": torch.ones(3, 6).bool()[None]}, r"mask \(1, 3, 6\) must be"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_keys(torch.zeros(1, 1, 3, 6), **options)
