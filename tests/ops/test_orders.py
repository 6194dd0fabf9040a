"""Token orders are permutations that keep neighbours together."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.core.layout import Layout, Segment
from saccade.ops.orders import Bars, Hilbert, Order, Tiles, candidates, inverse, tokens

GRIDS = st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13))
ORDERS = st.one_of(
    st.builds(Tiles, *(st.integers(1, 5),) * 3), st.builds(Bars, *(st.integers(1, 5),) * 2), st.just(Hilbert())
)


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


@given(grid=GRIDS, bar=st.tuples(st.integers(1, 4), st.integers(1, 5)))
def test_bars_are_walked_slice_by_slice_and_go_on_beside_themselves(grid: tuple[int, int, int], bar: tuple) -> None:
    at = Layout.image_only(grid).coords()[Bars(*bar).places(grid)]
    counts = [max(round(side / across), 1) for side, across in zip(grid, bar, strict=False)]
    which = at[:, :2] * torch.tensor(counts) // torch.tensor(grid[:2])
    slices = torch.unique_consecutive(torch.cat((which, at[:, 2:]), dim=1), dim=0)
    assert len(slices) == counts[0] * counts[1] * grid[2]  # each of them is one run
    assert slices.diff(dim=0).abs().sum(-1).tolist() == [1] * (len(slices) - 1)


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


def test_a_video_has_orders_in_three_dimensions_and_small_blocks_have_small_bars() -> None:
    layout = Layout.joint(text=7, grid=(8, 16, 16))
    assert candidates(layout, 64) == (None, Bars(1, 8), Bars(2, 4), Bars(4, 4))
    assert Bars(1, 4) in candidates(layout, 32) and Bars(3, 3) in candidates(layout, 32)


def test_bars_must_have_sides() -> None:
    with pytest.raises(ValueError, match="a bar of 2 x 0 must be at least 1 token across"):
        Bars(2, 0)


def test_tiles_must_have_sides() -> None:
    with pytest.raises(ValueError, match=r"tile \(0, 2, 2\) must have sides of at least 1"):
        Tiles(0, 2, 2)
