"""Keys that a new token keeps: the official masks, a rewrite by loops, and what holds of every way to choose."""

from dataclasses import replace
from math import ceil, log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from saccade.papers.kinetics import Sampling, Selection
from saccade.papers.kinetics.selection import METHODS

GOLDEN = Path(__file__).parents[2] / "goldens" / "kinetics" / "case_sparse_decode_masks.safetensors"
SELECTIONS = st.builds(
    Selection,
    method=st.sampled_from(METHODS),
    top=st.integers(1, 4).map(lambda blocks: 4 * blocks),
    local=st.integers(1, 9),
    block=st.just(4),
    stride=st.sampled_from([2, 3]),
)


def scores(seed: int, rows: int = 3, heads: int = 4, m: int = 40) -> Tensor:
    return torch.randn(rows, heads, m, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "selection"),
    [
        ("local10", Selection(method="local", local=10)),
        ("topk12_local8", Selection(method="top", top=12, local=8)),
        ("block3x8_local7", Selection(method="block", top=24, block=8, local=7)),
    ],
)
def test_the_official_masks(name: str, selection: Selection) -> None:
    found = load_file(GOLDEN)
    bits = np.unpackbits(found[f"{name}.keep_bits"].numpy(), axis=-1, bitorder="little")[..., :75]
    assert torch.equal(selection.kept(found["scores"], found["lengths"], 2), torch.from_numpy(bits.astype(bool)))


def by_loops(x: Tensor, n: int, how: Selection, kv_heads: int) -> Tensor:
    """One row, as the specification says it."""
    kept, size = torch.zeros_like(x, dtype=torch.bool), len(x) // kv_heads
    whole = {"block": ceil(how.budget / how.block) * how.block, "strided": how.sink + how.local + how.block - 1}
    if n <= whole.get(how.method, how.budget):
        kept[:, :n] = True
        return kept
    local = how.local + ((n - how.sink - how.local) % how.block if how.method == "block" else 0)
    middle = list(range(how.sink, n - local))
    for group in range(kv_heads):
        rows = slice(group * size, (group + 1) * size)
        mean = x[rows].mean(0)
        kept[rows, : how.sink] = kept[rows, n - local : n] = True
        if how.method == "top":
            kept[rows, sorted(middle, key=lambda j: -float(mean[j]))[: how.top]] = True
        if how.method in ("block", "strided"):
            step = how.block if how.method == "block" else how.stride
            starts = range(how.sink, n - local - how.block + 1, step)
            times = 1 if how.method == "block" else 2
            best = sorted(starts, key=lambda j: -float(mean[j : j + how.block].mean()))[: how.top // how.block * times]
            chosen = sorted({j for start in best for j in range(start, start + how.block)})
            kept[rows, chosen if how.method == "block" else chosen[: how.top]] = True
    return kept


@given(how=SELECTIONS, seed=st.integers(0, 99), lengths=st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_as_the_specification_says_it(how: Selection, seed: int, lengths: list[int]) -> None:
    if how.method == "random":
        how = replace(how, method="top")
    x = scores(seed)
    found = how.kept(x, torch.tensor(lengths), 2)
    for row, n in enumerate(lengths):
        assert torch.equal(found[row], by_loops(x[row], n, how, 2))


@given(how=SELECTIONS, seed=st.integers(0, 99), lengths=st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_what_holds_of_every_choice(how: Selection, seed: int, lengths: list[int]) -> None:
    n = torch.tensor(lengths)
    found = how.kept(scores(seed), n, 2, torch.Generator().manual_seed(seed))
    there = torch.arange(40) < n[:, None]
    assert not (found & ~there[:, None]).any()
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 2], found[:, 3])  # heads of one key head
    assert found.any(-1).all()
    counts = found.sum(-1)[:, 0]
    assert (counts <= torch.minimum(n, torch.tensor(how.budget + 2 * how.block))).all()
    if how.method in ("local", "top", "random"):
        assert torch.equal(counts, n.clamp(max=how.budget))


def test_a_budget_as_long_as_the_text_keeps_all() -> None:
    for method in ("local", "top", "block", "random"):
        how = Selection(method=method, top=48, local=48 if method == "local" else 4, block=4)
        assert how.kept(scores(0), torch.tensor([40, 20, 1]), 2).sum().item() == 4 * 61


@given(seed=st.integers(0, 20), lengths=st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_drawn_keys_stand_for_the_middle(seed: int, lengths: list[int]) -> None:
    x, n, how = scores(seed), torch.tensor(lengths), Sampling(draws=6, local=3, sink=2)
    found = how.shifts(x, n, torch.Generator().manual_seed(seed))
    for row, length in enumerate(lengths):
        assert (found[row, :, length:] == -torch.inf).all()
        if length <= how.budget:
            assert (found[row, :, :length] == 0).all()
            continue
        assert (found[row, :, :2] == 0).all() and (found[row, :, length - 3 : length] == 0).all()
        middle = found[row, :, 2 : length - 3]
        counts = (middle - log(length - 5) + log(6)).exp()
        torch.testing.assert_close(counts.sum(-1), torch.full((4,), 6.0))


def test_the_sum_over_the_middle_is_unbiased_and_the_released_one_is_low() -> None:
    x, n = scores(1, rows=1, heads=1, m=60), torch.tensor([60])
    inside = slice(4, 60)
    true = x[0, 0, inside].exp().sum()
    noise = torch.Generator().manual_seed(0)
    for compat, low, high in ((None, 0.97, 1.03), ("official", 0.5, 0.95)):
        how = Sampling(draws=30, compat=compat)
        sums = torch.stack([(x + how.shifts(x, n, noise))[0, 0, inside].exp().sum() for _ in range(600)])
        assert low < sums.mean() / true < high


def test_an_oracle_shares_what_the_middle_gets_equally() -> None:
    x, n, how = scores(2), torch.tensor([40, 30, 22]), Sampling(by="oracle", draws=8, local=2)
    moved = x + how.shifts(x, n, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved.logsumexp(-1)[0], x[0].logsumexp(-1))
    shares = moved.softmax(-1)[0, 0, 4:38]
    drawn = shares[shares > 0]
    torch.testing.assert_close(drawn / drawn.min(), (drawn / drawn.min()).round(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Selection(method="best"), "method='best' is unknown; choose one of local, top, block"),
        (lambda: Selection(method="local"), "local=0 must be a whole number of at least 1"),
        (lambda: Selection(top=0), "top=0 must be"),
        (lambda: Selection(block=0), "block=0 must be"),
        (lambda: Selection(top=20, block=16), "top=20 must be a multiple of block=16"),
        (lambda: Sampling(draws=0), "draws=0 must be"),
        (lambda: Sampling(by="chance"), "by='chance' is unknown; choose one of uniform, oracle"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
