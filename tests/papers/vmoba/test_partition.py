"""Chunks of a video: their tokens, sizes, orders, and the mask of each token's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.core.layout import Layout
from saccade.papers.vmoba.partition import Blocks, Box, Frames, OwnChunk, Tile, chunks
from tests.papers.vmoba.reference import labels

CPU = torch.device("cpu")


def cut(kind: str, grid: tuple[int, int, int], data: st.DataObject) -> Blocks:
    def side(n: int) -> int:
        return data.draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0]))

    if kind == "frames":
        return Frames(data.draw(st.floats(1 / (grid[1] * grid[2]) + 1e-9, grid[0] + 1)))
    return Tile(side(grid[1]), side(grid[2])) if kind == "tile" else Box(*map(side, grid))


def sizes(blocks: Blocks) -> tuple[float, ...]:
    return tuple(vars(blocks).values())


@pytest.mark.parametrize("kind", ["frames", "tile", "box"])
@given(t=st.integers(2, 5), h=st.integers(1, 6), w=st.integers(1, 6), data=st.data())
def test_every_token_is_in_the_chunk_of_its_place(kind: str, t: int, h: int, w: int, data: st.DataObject) -> None:
    blocks = cut(kind, grid := (t, h, w), data)
    parts, expected = chunks(blocks, grid, CPU), labels(sizes(blocks), (t, h, w))
    assert torch.equal(parts.label, expected)
    assert parts.sizes == tuple(expected.bincount().tolist())
    assert torch.equal(parts.own.sum(0), torch.ones(t * h * w).long())


@pytest.mark.parametrize("kind", ["frames", "tile", "box"])
@given(t=st.integers(2, 5), h=st.integers(1, 6), w=st.integers(1, 6), data=st.data())
def test_there_and_back_is_the_same(kind: str, t: int, h: int, w: int, data: st.DataObject) -> None:
    parts, x = chunks(cut(kind, (t, h, w), data), (t, h, w), CPU), torch.randn(2, t * h * w, 3)
    moved = parts.to_blocks(x, 1)
    assert torch.equal(parts.from_blocks(moved, 1), x)
    assert (parts.to_blocks(parts.label, 0).diff() >= 0).all()


def test_tokens_of_a_chunk_stay_in_raster_order() -> None:
    order = chunks(Tile(1, 2), (2, 2, 4), CPU).order.tolist()
    assert order == [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]
    assert chunks(Box(1, 1, 2), (2, 2, 4), CPU).order.tolist() == list(range(16))
    assert chunks(Frames(0.5), (2, 2, 4), CPU).order.tolist() == list(range(16))


def test_the_papers_counts() -> None:
    grid = (24, 36, 64)
    for blocks, size, count in ((Frames(3), 6912, 8), (Tile(6, 8), 1152, 48), (Box(8, 12, 8), 768, 72)):
        assert set(chunks(blocks, grid, CPU).sizes) == {size} and len(chunks(blocks, grid, CPU).sizes) == count


def test_frames_may_be_fractions_and_the_last_run_short() -> None:
    assert chunks(Frames(1.5), (4, 3, 3), CPU).sizes == (13, 13, 10)
    assert chunks(Frames(3), (7, 2, 2), CPU).sizes == (12, 12, 4)


@pytest.mark.parametrize("text_first", [True, False])
@pytest.mark.parametrize("blocks", [Frames(0.75), Tile(2, 3), Box(1, 2, 3)], ids=repr)
def test_the_mask_leaves_image_tokens_their_own_chunk_and_all_text(blocks: Blocks, text_first: bool) -> None:
    layout = Layout.joint(text=5, grid=(3, 4, 6), text_first=text_first)
    label = torch.full((layout.n,), -1)
    label[layout.span("image")] = labels(sizes(blocks), (3, 4, 6))
    expected = (label[:, None] == label) | (label[:, None] < 0) | (label < 0)
    bound = OwnChunk(blocks).bind(layout, layout)
    assert torch.equal(bound.token()[0, 0], expected) and bound.pairs() == expected.sum()
    more = layout.append(layout.segments[0].__class__("memory", "extra", 2))
    assert OwnChunk(blocks).materialize(layout, more)[..., -2:].all()


@pytest.mark.parametrize("blocks", [Frames(1.3), Tile(4, 4), Box(2, 4, 8)], ids=repr)
def test_the_masks_blocks_are_those_of_its_pairs(blocks: Blocks) -> None:
    layout = Layout.joint(text=3, grid=(4, 8, 8))
    bound = OwnChunk(blocks).bind(layout, layout)
    found, token = bound.block_map(16, 16)[0, 0], bound.token()[0, 0]
    padded = torch.nn.functional.pad(token, (0, -layout.n % 16, 0, -layout.n % 16))
    some = padded.unflatten(1, (-1, 16)).unflatten(0, (-1, 16)).any(3).any(1)
    assert torch.equal(found > 0, some)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("blocks", "grid", "message"),
    [
        (Tile(4, 5), (3, 6, 10), r"tile=\(4, 5\) must divide the grid \(t, h, w\) = \(3, 6, 10\); give divisors"),
        (Box(2, 3, 5), (3, 6, 10), r"box=\(2, 3, 5\) must divide the grid \(t, h, w\) = \(3, 6, 10\)"),
        (Frames(0.01), (3, 6, 10), r"frames=0.01 of grid=\(3, 6, 10\) hold no token; give more"),
        (Frames(1), (1, 6, 10), r"frames=1 divides a video in time, grid=\(1, 6, 10\) is one frame; give tile= alone"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks: Blocks, grid: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chunks(blocks, grid, CPU)
