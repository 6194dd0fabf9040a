"""The numbers CLEAR's paper and code imply, counted exactly, up to 8192 x 8192 pixels."""

import math

import pytest
import torch

from saccade.core.layout import Layout
from saccade.core.places import Disc
from saccade.papers.clear import Clear

TEXT, WIDTH = 512, 3072  # FLUX.1-dev: T5 tokens, channels


def flux(pixels: int) -> Layout:
    return Layout.joint(text=TEXT, grid=(1, pixels // 16, pixels // 16))


def gflop(pairs: int) -> float:
    """4 * channels FLOPs per pair: q k^T and the sum over v, in all heads."""
    return 4 * WIDTH * pairs / 1e9


@pytest.mark.parametrize(
    ("clear", "pairs", "cost"),
    [
        (Clear(radius=99), 21_233_664, 260.92),
        (Clear(radius=8), 5_166_500, 63.49),
        (Clear(radius=16), 7_051_328, 86.65),
        (Clear(radius=32), 12_541_484, 154.11),
        (Clear(radius=8, pool=4), 6_215_076, 76.37),
        (Clear(radius=16, pool=4), 8_099_904, 99.53),
    ],
    ids=str,
)
def test_pairs_and_cost_at_1024_pixels(clear: Clear, pairs: int, cost: float) -> None:
    assert clear.pairs(flux(1024)) == pairs
    assert gflop(pairs) == pytest.approx(cost, abs=0.005)


@pytest.mark.parametrize(("radius", "pairs"), [(8, 710_052), (16, 2_594_880), (32, 8_085_036)])
def test_image_pairs_at_1024_pixels(radius: int, pairs: int) -> None:
    assert Clear(radius=radius).pairs(Layout.image_only((1, 64, 64))) == pairs


@pytest.mark.parametrize(("radius", "keys"), [(1, 1), (8, 193), (16, 793), (32, 3205)])
def test_a_disc_is_no_square(radius: int, keys: int) -> None:
    side = 2 * radius + 1
    layout = Layout.image_only((1, side, side))
    middle = torch.tensor([side * side // 2])
    assert int(Disc(radius).bind(layout, layout).token(middle).sum()) == keys


@pytest.mark.parametrize(
    ("clear", "share"),
    [(Clear(radius=8), 0.462), (Clear(radius=16), 0.683), (Clear(radius=32), 1.544)],
    ids=str,
)
def test_share_of_pairs_at_8192_pixels(clear: Clear, share: float) -> None:
    layout = flux(8192)
    assert 100 * clear.pairs(layout) / layout.n**2 == pytest.approx(share, abs=0.0005)


@pytest.mark.parametrize(("radius", "share"), [(8, 6.7), (16, 6.9)])
def test_the_pooled_variant_is_not_linear(radius: int, share: float) -> None:
    layout = flux(8192)
    assert 100 * Clear(radius=radius, pool=4).pairs(layout) / layout.n**2 == pytest.approx(share, abs=0.05)


def test_doubling_the_sides_tends_to_four_times_the_pairs() -> None:
    def ratio(side: int) -> float:
        small, large = (Clear(radius=8).pairs(Layout.image_only((1, s, s))) for s in (side, 2 * side))
        return large / small

    gaps = [abs(ratio(side) - 4) for side in (16, 64, 256, 1024)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.02


def test_without_pooling_pairs_grow_linearly_with_the_area() -> None:
    sides = (64, 128, 256, 512)
    pairs = [Clear(radius=8).pairs(Layout.joint(text=TEXT, grid=(1, side, side))) for side in sides]
    slopes = [math.log2(b / a) / 2 for a, b in zip(pairs, pairs[1:], strict=False)]
    assert slopes == sorted(slopes)
    assert 0.9 < slopes[-1] < 1
