"""Masks from mass: the best of each row, head by head, with all blocks of text."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.adaspa.mass_mask import choose_blocks, head_levels, kept, recall, row_wise, sparsities
from tests.papers.adaspa.plain import adaptive_mask, row_mask

SOME = torch.tensor([[True, False, False, True, False, False, False]])


def mass_of(blocks: int, seed: int, heads: int = 4) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    sharp = torch.tensor([0.3, 1.0, 3.0, 9.0])[:heads, None, None]
    return (torch.randn(2, heads, blocks, blocks, generator=g) * sharp).softmax(-1).double()


def flags(blocks: int, *on: int) -> Tensor:
    return torch.tensor([[j in on for j in range(blocks)]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_papers_example(dtype: torch.dtype) -> None:
    """Half of four blocks: the first two, with recall .8, which is not above .8."""
    mass = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=dtype).expand(1, 2, 4, 4)
    open_, text = flags(4, 0, 1, 2, 3), flags(4)
    mask = row_wise(mass, open_, text, 0.5, torch.zeros(1, 2, dtype=torch.int64))
    assert mask.tolist() == [[[[True, True, False, False]] * 4] * 2]
    found = recall(mass, mask)
    torch.testing.assert_close(found, torch.full((1, 2), 0.8, dtype=dtype))
    assert head_levels(found).tolist() == [[0, 0]]
    assert torch.equal(choose_blocks(mass, open_, text, 0.5), mask)


@given(
    blocks=st.integers(1, 12),
    sparsity=st.floats(1 / 3, 0.99),
    text=st.sets(st.integers(0, 11)),
    seed=st.integers(0, 99),
)
def test_equals_the_paper_row_by_row(blocks: int, sparsity: float, text: set[int], seed: int) -> None:
    mass, marks = mass_of(blocks, seed), flags(blocks, *text)
    mask = choose_blocks(mass, flags(blocks, *range(blocks)), marks, sparsity)
    assert torch.equal(mask, adaptive_mask(mass, marks[0].tolist(), sparsity))


@given(blocks=st.integers(2, 12), sparsity=st.floats(1 / 3, 0.99), seed=st.integers(0, 99))
def test_every_row_of_a_head_keeps_equally_many(blocks: int, sparsity: float, seed: int) -> None:
    """Without text, as many as the head's own sparsity says."""
    mass, open_ = mass_of(blocks, seed), flags(blocks, *range(blocks))
    mask = choose_blocks(mass, open_, flags(blocks), sparsity)
    common = row_wise(mass, open_, flags(blocks), sparsity, torch.zeros(2, 4, dtype=torch.int64))
    levels = head_levels(recall(mass, common))
    counts = torch.tensor([kept(blocks, s) for s in sparsities(sparsity)])
    assert torch.equal(mask.sum(-1), counts[levels][..., None].expand(2, 4, blocks))
    assert (common.sum(-1) == kept(blocks, sparsity)).all()


def test_text_is_kept_beside_the_number_of_each_row() -> None:
    mass = mass_of(7, 0)
    mask = row_wise(mass, flags(7, *range(7)), SOME, 0.7, torch.zeros(2, 4, dtype=torch.int64))
    assert mask[..., SOME[0]].all() and mask[:, :, SOME[0]].all()
    assert (mask[:, :, ~SOME[0]][..., ~SOME[0]].sum(-1) == 2).all()


@given(sparsity=st.floats(1 / 3, 0.99), found=st.lists(st.sampled_from([0.1, 0.5, 0.8, 0.81, 0.9, 1.0]), min_size=1))
def test_the_mean_sparsity_of_the_heads_stays(sparsity: float, found: list[float]) -> None:
    levels = head_levels(torch.tensor([found], dtype=torch.float64))[0].tolist()
    assert sum(sparsities(sparsity)[level] for level in levels) / len(levels) == pytest.approx(sparsity, abs=1e-9)
    above = min(sum(r > 0.8 for r in found), len(found) // 2)
    assert levels.count(1) == levels.count(2) == above
    order = sorted(range(len(found)), key=lambda h: -found[h])  # stable
    assert all(levels[h] == 1 for h in order[:above]) and all(levels[h] == 2 for h in order[len(found) - above :])


def test_ties_are_broken_by_the_order_of_the_heads() -> None:
    assert head_levels(torch.tensor([[0.9, 0.9, 0.9, 0.9, 0.9]])).tolist() == [[1, 1, 0, 2, 2]]
    assert head_levels(torch.tensor([[0.9, 0.2, 0.2, 0.2]])).tolist() == [[1, 0, 0, 2]]
    assert head_levels(torch.tensor([[0.8, 0.7]])).tolist() == [[0, 0]]
    assert head_levels(torch.tensor([[0.9]])).tolist() == [[0]]


@given(blocks=st.integers(2, 9), sparsity=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_no_other_mask_of_equal_rows_holds_more(blocks: int, sparsity: float, seed: int) -> None:
    mass, zero = mass_of(blocks, seed), torch.zeros(2, 4, dtype=torch.int64)
    best = row_wise(mass, flags(blocks, *range(blocks)), flags(blocks), sparsity, zero)
    other = torch.rand(best.shape, generator=torch.Generator().manual_seed(seed))
    other = other.argsort(-1).argsort(-1) < kept(blocks, sparsity)
    assert (recall(mass, best) >= recall(mass, other) - 1e-12).all()


@given(blocks=st.integers(1, 12), a=st.floats(0, 0.99), b=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_recall_never_rises_with_sparsity(blocks: int, a: float, b: float, seed: int) -> None:
    mass, open_, zero = mass_of(blocks, seed), flags(blocks, *range(blocks)), torch.zeros(2, 4, dtype=torch.int64)
    low, high = (row_wise(mass, open_, flags(blocks, 0), s, zero) for s in sorted((a, b)))
    assert (low | ~high).all() and (recall(mass, low) >= recall(mass, high)).all()


def test_counts_are_rounded_to_the_nearest_and_at_least_one() -> None:
    assert [kept(n, 0.8) for n in (0, 1, 2, 5, 12, 13)] == [0, 1, 1, 1, 2, 3]
    assert kept(45, 0.9) == 5 and kept(5, 0.5) == 3 and kept(10, 0) == 10  # halves up, whatever floats make of them
    assert sparsities(0.8) == pytest.approx((0.8, 0.9, 0.7)) and sparsities(1 / 3)[2] == 0


def test_blocks_of_padding_are_neither_kept_nor_counted() -> None:
    mass = mass_of(6, 3)
    open_ = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    text = torch.tensor([[True] + [False] * 5, [False] * 4 + [True] * 2])
    mask = row_wise(mass, open_, text, 0.5, torch.zeros(2, 4, dtype=torch.int64))
    assert not mask[0, ..., 4:].any()
    rows = [row_mask(mass[0, 0, 1, :4], [True, False, False, False], 0.5), [True] * 4]
    assert mask[0, 0, 1, :4].tolist() == rows[0] and mask[0, 0, 0, :4].tolist() == rows[1]
    assert (mask[0, :, 4:].sum(-1) >= 1).all()  # a row of padding still has a key
