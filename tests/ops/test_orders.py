"""Token orders are permutations that keep neighbours together; patterns say exactly what a mask says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.core.blocks import EMPTY, FULL, MIXED
from saccade.core.layout import Layout, Segment
from saccade.core.masks import Mask, Table
from saccade.core.places import Causal, Disc
from saccade.ops.gather_schedule import schedule
from saccade.ops.orders import Hilbert, Order, Tiles, candidates, inverse, tokens
from saccade.ops.pattern import Pattern, pattern
from tests.ops.cases import block_mask

GRIDS = st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13))
ORDERS = st.one_of(st.builds(Tiles, *(st.integers(1, 5),) * 3), st.just(Hilbert()))


@given(grid=GRIDS, order=ORDERS)
def test_every_order_is_a_permutation(grid: tuple[int, int, int], order: Order) -> None:
    places = order.places(grid)
    assert sorted(places.tolist()) == list(range(grid[0] * grid[1] * grid[2]))
    assert torch.equal(places[inverse(places)], torch.arange(len(places)))


@given(grid=GRIDS, tile=st.tuples(*(st.integers(1, 5),) * 3))
def test_a_tile_is_one_run_of_tokens(grid: tuple[int, int, int], tile: tuple[int, int, int]) -> None:
    coords = Layout.image_only(grid).coords()[Tiles(*tile).places(grid)]
    _, runs = torch.unique_consecutive(coords // torch.tensor(tile), dim=0, return_counts=True)
    assert len(runs) == torch.tensor([-(-side // t) for side, t in zip(grid, tile, strict=True)]).prod()


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_the_hilbert_curve_makes_single_steps(level: int) -> None:
    side = 1 << level
    walked = Layout.image_only((1, side, side)).coords()[Hilbert().places((1, side, side))]
    assert walked.diff(dim=0).abs().sum(-1).tolist() == [1] * (side * side - 1)


def test_tokens_without_a_grid_follow_the_grids_unchanged() -> None:
    layout = Layout(
        (Segment("text", "text", 5), Segment("image", "image", 6, (1, 2, 3)), Segment("memory", "extra", 2))
    )
    order = tokens(Tiles(1, 2, 1), layout)
    assert order is not None
    assert order.tolist() == [5, 8, 6, 9, 7, 10, 0, 1, 2, 3, 4, 11, 12]


def test_layouts_without_a_grid_have_one_order() -> None:
    assert candidates(Layout.plain(300), 128) == (None,)
    assert tokens(Hilbert(), Layout.plain(300)) is None


def test_tiles_must_have_sides() -> None:
    with pytest.raises(ValueError, match=r"tile \(0, 2, 2\) must have sides of at least 1"):
        Tiles(0, 2, 2)


def rebuilt(found: Pattern) -> torch.Tensor:
    """The token map a pattern stands for, in the tokens' own order."""
    assert found.tiles is not None
    whole = found.tiles[found.tile_of.long()] & (found.map != EMPTY)[..., None, None]  # (b h Q K s c)
    b, h, q, k, s, c = whole.shape
    flat = whole.transpose(3, 4).reshape(b, h, q * s, k * c)
    rows = torch.arange(found.n) if found.back is None else found.back
    columns = torch.arange(found.m) if found.back is None else found.back
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


@pytest.mark.parametrize("radius", [3.5, 8.0])
def test_a_better_order_is_the_same_mask_in_fewer_blocks(radius: float) -> None:
    layout = Layout.joint(text=7, grid=(1, 24, 40))
    found = pattern(Disc(radius).bind(layout, layout), layout, layout, (16, 16))
    raster = Disc(radius).bind(layout, layout).block_map(16, 16)
    assert found.order is not None
    assert found.area < 0.9 * (raster > 0).float().mean().item()
    assert torch.equal(rebuilt(found), Disc(radius).materialize(layout, layout))


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
