"""Orders and blocks: the official permutations and block map, and the densities the authors quote."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import Table
from saccade.ops import attend
from saccade.ops.orders import HilbertTiles, Tiles, inverse
from saccade.papers.scale_dit import ScaleDiT, anchored, block_density, block_map, ordered
from saccade.papers.scale_dit.token_orders import ORDERS, OrderName

GOLDENS = load_file(Path(__file__).parents[2] / "goldens" / "scale-dit" / "case_masks.safetensors")
sides = st.integers(1, 9)


def pictures(pixels: int) -> Layout:
    """FLUX.1's tokens of a square picture and of its copy at a quarter."""
    return anchored(text=512, high=(pixels // 16,) * 2, low=(pixels // 64,) * 2)


def test_permutations_are_the_official_ones() -> None:
    assert torch.equal(Tiles(1, 8, 8).places((1, 16, 24)), GOLDENS["perm.window_16x24_8x8"].long())
    assert torch.equal(HilbertTiles(8, 8).places((1, 16, 24)), GOLDENS["perm.hilbert_16x24_8x8"].long())


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 3), sides, sides), sides, sides)
def test_hilbert_tiles_hold_every_token_once_tile_by_tile(grid: tuple[int, int, int], h: int, w: int) -> None:
    places = HilbertTiles(h, w).places(grid)
    assert torch.equal(places.sort().values, torch.arange(grid[0] * grid[1] * grid[2]))
    tiles = Tiles(1, h, w).places(grid)
    sizes = [
        min(h, grid[1] - y) * min(w, grid[2] - x)
        for _ in range(grid[0]) for y in range(0, grid[1], h) for x in range(0, grid[2], w)
    ]  # fmt: skip
    for own, raster in zip(places.split(sizes), tiles.split(sizes), strict=True):
        assert torch.equal(own.sort().values, raster.sort().values)


def test_steps_along_a_curve_are_of_one_token() -> None:
    at = HilbertTiles(8, 8).places((1, 8, 8))
    assert ((at[1:] // 8 - at[:-1] // 8).abs() + (at[1:] % 8 - at[:-1] % 8).abs() == 1).all()


@pytest.mark.parametrize("order", ORDERS)
def test_permuting_and_back_is_the_identity(order: OrderName) -> None:
    layout = anchored(text=5, high=(16, 24), low=(4, 6))
    at = ordered(order, layout, 8)
    x = torch.randn(layout.n, 3)
    assert torch.equal(x[at][inverse(at)], x)
    assert torch.equal(at[:5], torch.arange(5)) and (at[-24:] >= 5 + 384).all()  # segments stay where they are


@pytest.mark.parametrize("order", ORDERS)
def test_permuting_operands_and_mask_permutes_the_output(order: OrderName) -> None:
    layout, generator = anchored(text=4, high=(8, 8), low=(2, 2)), torch.Generator().manual_seed(0)
    mask = ScaleDiT(window=4).mask()
    at = ordered(order, layout, 4)
    q, k, v = (torch.randn(1, 2, layout.n, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    out = attend(plain_call(q, k, v, layout=layout, mask=mask)).out
    number = torch.arange(layout.n)
    moved = Table(number, number, mask.materialize(layout, layout)[0, 0][at][:, at])
    plain = Layout.plain(layout.n)
    permuted = attend(plain_call(q[:, :, at], k[:, :, at], v[:, :, at], layout=plain, mask=moved)).out
    torch.testing.assert_close(permuted[:, :, inverse(at)], out, atol=1e-12, rtol=0)


def test_the_row_sums_and_block_map_are_the_official_ones() -> None:
    layout, mask = anchored(text=512, high=(16, 32), low=(4, 8)), ScaleDiT().mask()
    at = ordered("window", layout, 16)
    sums = mask.bind(layout, layout).token()[0, 0][at][:, at].sum(-1)
    assert torch.equal(sums, GOLDENS["256x512.rowsum"].long())
    found = block_map(mask, layout, "window", 16) > 0
    assert found.shape == (9, 17)  # the official code cuts 32 tokens off
    assert torch.equal(found[:8, :16].byte(), GOLDENS["256x512.block_map_128x64"])


@pytest.mark.parametrize(("pixels", "density"), [(1024, 0.3580)])
def test_densities_are_those_the_authors_quote(pixels: int, density: float) -> None:
    assert block_density(ScaleDiT().mask(), pictures(pixels), "window", 16) == pytest.approx(density, abs=5e-5)


def test_1024_pixels_compute_the_pairs_the_authors_count() -> None:
    found = block_map(ScaleDiT().mask(), pictures(1024), "window", 16) > 0
    assert int(found.sum()) * 128 * 64 == 8_470_528


@pytest.mark.slow
@pytest.mark.parametrize(("pixels", "density"), [(2048, 0.1106), (4096, 0.02982), (8192, 0.00767)])
def test_large_pictures_are_counted_without_a_whole_map(pixels: int, density: float) -> None:
    found = block_density(ScaleDiT().mask(), pictures(pixels), "window", 16)
    assert found == pytest.approx(density, abs=6e-5 if pixels == 2048 else 6e-6)
    assert pixels < 8192 or round(1 / found, 1) == 130.4


@pytest.mark.parametrize(
    ("pixels", "densities"),
    [(1024, (0.150, 0.215, 0.262)), pytest.param(4096, (0.0111, 0.0165, 0.0490), marks=pytest.mark.slow)],
)
def test_a_curve_beats_windows_and_windows_the_raster(pixels: int, densities: tuple[float, ...]) -> None:
    layout = anchored(text=0, high=(pixels // 16,) * 2, low=None)
    maps = [block_map(ScaleDiT().mask(), layout, order, 16) > 0 for order in ("hilbert", "window", "raster")]
    found = [float(m.double().mean()) for m in maps]
    assert found[0] < found[1] < found[2]
    assert found == pytest.approx(densities, abs=6e-4 if pixels == 1024 else 6e-5)
    assert [int(m.sum(1).max()) for m in maps[:2]] == [12, 18]  # however large the picture


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(16, 8), (7, 5)])
def test_an_expanded_mask_opens_whole_blocks_and_no_others(order: OrderName, size: tuple[int, int]) -> None:
    from saccade.papers.scale_dit.block_expanded import BlockExpanded

    layout = anchored(text=6, high=(8, 8), low=(2, 2))
    inner = ScaleDiT(window=4).mask()
    expanded = BlockExpanded(inner, order, 4, size).materialize(layout, layout)[0, 0]
    at = ordered(order, layout, 4)
    exact, found = (m[at][:, at] for m in (inner.materialize(layout, layout)[0, 0], expanded))
    for rows, open_rows in zip(exact.split(size[0]), found.split(size[0]), strict=True):
        for block, opened in zip(rows.split(size[1], 1), open_rows.split(size[1], 1), strict=True):
            assert bool(opened.all()) if block.any() else not opened.any()
    bound = BlockExpanded(inner, order, 4, size).bind(layout, layout)
    assert bound.pairs() == expanded.sum()


def test_the_expanded_mask_depends_on_the_order() -> None:
    layout = pictures(1024)
    counts = {o: ScaleDiT(expand=o).mask().bind(layout, layout).pairs() for o in ("window", "hilbert")}
    assert counts["window"] == 8_470_528 > counts["hilbert"] > ScaleDiT().mask().bind(layout, layout).pairs()


def test_attention_under_the_expanded_mask_is_exact() -> None:
    layout, generator = anchored(text=6, high=(8, 8), low=(2, 2)), torch.Generator().manual_seed(0)
    mask = ScaleDiT(window=4, expand="window").mask()
    q, k, v = (torch.randn(1, 1, layout.n, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    scores = (q @ k.mT * 8**-0.5).masked_fill(~mask.materialize(layout, layout), -torch.inf)
    out: Tensor = attend(plain_call(q, k, v, layout=layout, mask=mask)).out
    torch.testing.assert_close(out, scores.softmax(-1) @ v, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HilbertTiles(0, 4), r"tile \(0, 4\) must have sides of at least 1"),
        (
            lambda: ordered("zigzag", pictures(1024), 16),
            "order='zigzag' is unknown; choose one of window, hilbert, ras",
        ),  # type: ignore[arg-type]
        (
            lambda: ordered("window", anchored(text=0, high=(24, 20), low=None), 16),
            r"a grid of \(24, 20\) tokens is not filled by windows of window=16; choose multiples of it",
        ),
    ],
)
def test_bad_orders_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_whole_blocks_are_for_a_sequence_and_itself() -> None:
    one, other = anchored(text=6, high=(8, 8), low=(2, 2)), anchored(text=5, high=(8, 8), low=(2, 2))
    with pytest.raises(ValueError, match="keys are text 5 .* and queries text 6 .*; whole blocks are for attention of"):
        ScaleDiT(window=4, expand="window").mask().bind(one, other)
