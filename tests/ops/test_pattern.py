"""Patterns say exactly what a mask says, and are chosen by what their blocks are predicted to take."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.core.blocks import EMPTY, FULL, MIXED
from saccade.core.layout import Layout, Segment
from saccade.core.masks import Mask, Table, among
from saccade.core.places import Causal, Disc, Windows
from saccade.ops.block_cost import BlockCost
from saccade.ops.gather_schedule import schedule
from saccade.ops.orders import Bars, Order, inverse, tokens
from saccade.ops.pattern import Pattern, pattern
from saccade.ops.pattern_choice import cheapest, tried
from tests.core.mask_cases import LAYOUTS, masks
from tests.ops.cases import block_mask
from tests.ops.test_orders import ORDERS


def rebuilt(found: Pattern, order_k: torch.Tensor | None = None) -> torch.Tensor:
    """The token map a pattern stands for, in the tokens' own order; keys in the queries' order, or in one given."""
    assert found.tiles is not None
    whole = found.tiles[found.tile_of.long()] & (found.map != EMPTY)[..., None, None]  # (b h Q K s c)
    b, h, q, k, s, c = whole.shape
    flat = whole.transpose(3, 4).reshape(b, h, q * s, k * c)
    rows = torch.arange(found.n) if found.back is None else found.back
    columns = torch.arange(found.m) if found.back is None else found.back if order_k is None else inverse(order_k)
    return flat[:, :, rows][..., columns]


@given(
    n=st.integers(1, 70), m=st.integers(1, 90), b=st.integers(1, 2), h=st.integers(1, 2), size=st.integers(1, 20),
    blocks=st.tuples(st.integers(1, 33), st.integers(1, 33)), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_pattern_is_the_mask(n: int, m: int, b: int, h: int, size: int, blocks: tuple[int, int], seed: int) -> None:
    mask = block_mask(n, m, b=b, h=h, size=size, seed=seed) & Causal()
    layouts = Layout.plain(n), Layout.plain(m)
    found = pattern(mask.bind(*layouts), *layouts, blocks)
    assert torch.equal(rebuilt(found), mask.materialize(*layouts))


@given(st.data(), ORDERS, st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_it_is_the_mask_in_any_order_of_any_layout(data: st.DataObject, order: Order, size: tuple[int, int]) -> None:
    layout = data.draw(st.sampled_from(LAYOUTS))
    longer = layout.append(Segment("memory", "extra", data.draw(st.integers(1, 4))))
    mask = data.draw(masks(layout))
    found = pattern(mask.bind(layout, longer), layout, longer, size, order)
    assert torch.equal(rebuilt(found, tokens(order, longer)), mask.materialize(layout, longer))
    assert found.mixed == int((found.map == MIXED).sum()) and found.kept == int((found.map != EMPTY).sum())


COSTS = (BlockCost((16, 16), 1.0, 1.1), BlockCost((8, 8), 1.3, 1.4))


@pytest.mark.parametrize("radius", [3.5, 8.0])
def test_a_better_order_is_the_same_mask_in_fewer_blocks(radius: float) -> None:
    layout = Layout.joint(text=7, grid=(1, 24, 40))
    bound = Disc(radius).bind(layout, layout)
    size, order = cheapest(bound, layout, layout, COSTS[:1])
    found, raster = pattern(bound, layout, layout, size, order), pattern(bound, layout, layout, size)
    assert order is not None and found.area < 0.9 * raster.area
    assert torch.equal(rebuilt(found), Disc(radius).materialize(layout, layout))


def test_round_masks_take_small_blocks_and_block_masks_large_ones() -> None:
    layout = Layout.image_only((1, 32, 32))
    assert cheapest(Disc(6).bind(layout, layout), layout, layout, COSTS)[0] == (8, 8)
    blocks = block_mask(1024, 1024, size=16, keep=0.2)
    assert cheapest(blocks.bind(layout, layout), layout, layout, COSTS) == ((16, 16), None)
    dear = (COSTS[0], BlockCost((8, 8), 4.0, 4.0))
    assert cheapest(Disc(6).bind(layout, layout), layout, layout, dear)[0] == (16, 16)


@pytest.mark.parametrize("mask", [Disc(9), Causal(), Windows(8), among("image", "image", Causal())], ids=repr)
@pytest.mark.parametrize("order", [None, Bars(1, 4), Bars(2, 4)], ids=repr)
def test_an_estimate_is_near_what_the_blocks_take(mask: Mask, order: Order | None) -> None:
    layout = Layout.joint(text=64, grid=(4, 32, 32))
    bound, cost = mask.bind(layout, layout), BlockCost((32, 32), 1.0, 1.5)
    found = pattern(bound, layout, layout, cost.size, order)
    trial = tried(bound, layout, layout, cost, order)
    assert trial.computed == pytest.approx(found.computed, rel=0.15)
    assert trial.time == pytest.approx(found.time(cost), rel=0.15)


def test_time_weighs_mixed_blocks() -> None:
    layout = Layout.plain(64)
    found = pattern(Causal().bind(layout, layout), layout, layout, (16, 16))
    assert (found.kept, found.mixed, found.area, found.share(2, 3)) == (10, 4, 10 / 16, 60)
    assert found.time(BlockCost((16, 16), 1.0, 3.0)) == pytest.approx((6 + 4 * 3) / 16)


def test_blocks_alike_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.image_only((1, 64, 64))
    bound = Disc(5).bind(layout, layout)
    looked: list[int] = []
    watched = replace(bound, allows=lambda *at: looked.append(bound.allows(*at).numel()) or bound.allows(*at))
    found = pattern(watched, layout, layout, (64, 64), Bars(1, 8))
    assert sum(looked) < found.mixed * 64**2 / 8


def test_equal_tiles_are_kept_once() -> None:
    layout = Layout.image_only((1, 32, 32))
    found = pattern(Disc(6).bind(layout, layout), layout, layout, (32, 32))
    assert found.tiles is not None
    mixed = int((found.map == MIXED).sum())
    assert len(found.tiles) == len(torch.unique(found.tiles.flatten(1), dim=0)) < mixed / 4


def test_a_mask_without_block_structure_keeps_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.ops.pattern.TILE_BYTES", 1 << 10)
    layout = Layout.plain(256)
    allow = torch.rand(256, 256, generator=torch.Generator().manual_seed(0)) < 0.5
    mask: Mask = Table(torch.arange(256), torch.arange(256), allow)
    assert pattern(mask.bind(layout, layout), layout, layout, (32, 32)).tiles is None


def test_a_schedule_visits_each_kept_block_once_full_ones_first() -> None:
    b, h, hk, n = 2, 4, 2, 333
    layout = Layout.plain(n)
    found = pattern(block_mask(n, n, b=b, h=h, size=40).bind(layout, layout), layout, layout, (32, 32))
    plan = schedule(found, b, h, hk, keys=128)
    kinds, seen, at, row = found.map.flatten(0, 2), set(), 0, 0
    for rows, count, open_ in plan.batches.tolist():
        assert rows == 1 or rows * count * 32 <= 128
        for i in plan.rows[row : row + rows].tolist():
            columns = plan.cols[at : at + count]
            head = i // found.map.shape[2]
            assert torch.equal(columns // found.map.shape[3], torch.full((count,), head // h * hk + head % h // 2))
            inside = columns % found.map.shape[3]
            assert bool((kinds[i, inside[:open_]] == FULL).all()) and bool((kinds[i, inside] != EMPTY).all())
            seen |= {(i, j) for j in inside.tolist()}
            at += count
        row += rows
    assert len(seen) == at == found.kept
