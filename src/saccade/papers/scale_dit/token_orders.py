"""Token orders and what a kernel computes in them: blocks that hold any pair the mask lets pass, counted exactly.

Segments stay where they are; each grid is ordered by itself, the picture and its low-resolution copy by windows that
cover the same part of the picture.
"""

from typing import Literal

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from saccade.core.checks import check_word
from saccade.core.layout import Layout
from saccade.core.masks import Mask
from saccade.ops.orders import HilbertTiles, Order, Tiles
from saccade.papers.scale_dit.anchor_layout import HIGH, LOW, check_windows, grid_of, low_window

OrderName = Literal["window", "hilbert", "raster"]
ORDERS: tuple[OrderName, ...] = ("window", "hilbert", "raster")
BLOCKS = (128, 64)  # queries and keys of the released kernel


def in_windows(order: OrderName, window: int) -> Order | None:
    """The order of one grid: windows in raster order, inside raster or along a Hilbert curve; None for the raster.

    Raises ValueError for an unknown order.
    """
    check_word(ORDERS, order=order)
    if order == "raster":
        return None
    return Tiles(1, window, window) if order == "window" else HilbertTiles(window, window)


def ordered(order: OrderName, layout: Layout, window: int) -> Int[Tensor, " n"]:
    """All tokens of a layout in an order; x[ordered(...)] has them window by window.

    Raises ValueError for an unknown order and for windows that do not fill the grids.
    """
    parts = [_ordered(order, layout, segment.name, window) for segment in layout.segments]
    return torch.cat(parts)


def block_map(
    mask: Mask, layout: Layout, order: OrderName, window: int, size: tuple[int, int] = BLOCKS
) -> UInt8[Tensor, "Q K"]:
    """For each block of queries and of keys: 0 for no pair, 1 for some, 2 for all; last blocks may be short."""
    at = ordered(order, layout, window)
    return mask.bind(layout, layout).block_map(*size, at, at)[0, 0]


def block_density(mask: Mask, layout: Layout, order: OrderName, window: int, size: tuple[int, int] = BLOCKS) -> float:
    """Share of the blocks that hold any pair, in [0, 1]."""
    return float((block_map(mask, layout, order, window, size) > 0).double().mean())


def _ordered(order: OrderName, layout: Layout, segment: str, window: int) -> Int[Tensor, " n"]:
    span = layout.span(segment)
    tokens, grid = torch.arange(span.start, span.stop), grid_of(layout, segment)
    if segment not in (HIGH, LOW) or grid is None:
        return tokens
    size = window if segment == HIGH else low_window(layout, window)
    chosen = in_windows(order, size)
    if chosen is None:
        return tokens
    check_windows(grid, size)
    return tokens[chosen.places((1, *grid))]
