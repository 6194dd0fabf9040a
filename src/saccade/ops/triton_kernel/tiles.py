"""How much a program of the kernel holds: widths as two powers of two, and a table of tiles by card, width and type.

The table comes from builds without a card (`saccade reproduce cuda_kernel`): in half precision none spills a register,
and what a program shares fits the card. Nothing is tried out at run time.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from saccade.ops.pattern import Size

Pass = Literal["forward", "queries", "keys"]  # the gradients of queries; those of keys and values
MAX_WIDTH = 256
LEAST = 16  # columns of a tensor core's product


@dataclass(frozen=True)
class Tile:
    """queries x keys of one turn, warps of a program, turns whose keys are fetched ahead."""

    queries: int
    keys: int
    warps: int
    stages: int


def two_parts(width: int) -> Size:
    """A width as two powers of two, the second 0 where one does: 64 + 16 columns instead of 128.

    Raises ValueError above 256 columns.
    """
    if width > MAX_WIDTH:
        raise ValueError(f"width={width} must be at most {MAX_WIDTH}; split the heads")
    whole = max(1 << width.bit_length() - 1, LEAST)
    if width <= whole:
        return whole, 0
    rest = max(_power(width - whole), LEAST)
    return (whole, rest) if rest < whole else (2 * whole, 0)


def tile_for(
    which: Pass, *, capability: tuple[int, int], width: int, width_v: int, dtype: torch.dtype, size: Size
) -> Tile:
    """The tile of a pass, cut to the blocks of the pattern.

    capability  of the card, such as (9, 0)
    width, width_v  columns of q and k, and of v
    """
    wide = max(sum(two_parts(width)), sum(two_parts(width_v)))
    rows = SINGLE if dtype == torch.float32 else HALF.get(capability[0], HALF[8])
    row = next(tiles for most, tiles in rows.items() if wide <= most)
    return cut(row[PASSES.index(which)], size)


def cut(tile: Tile, size: Size) -> Tile:
    """The tile for smaller blocks: it must divide them; fewer queries take fewer warps, from four on."""
    queries, keys = min(tile.queries, size[0]), min(tile.keys, size[1])
    warps = max(tile.warps * queries // tile.queries, min(tile.warps, 4))
    return Tile(queries, keys, warps, tile.stages)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()


PASSES: tuple[Pass, ...] = ("forward", "queries", "keys")
Row = tuple[Tile, Tile, Tile]  # in the order of PASSES, by the widest of q, k and v

# Half precision, by major compute capability. Others take those of 8, whose programs share least
HALF: dict[int, dict[int, Row]] = {
    8: {
        64: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(32, 64, 8, 2)),
        96: (Tile(128, 32, 8, 3), Tile(128, 64, 8, 2), Tile(32, 64, 8, 2)),
        128: (Tile(128, 32, 8, 3), Tile(128, 32, 8, 2), Tile(32, 64, 8, 2)),
        160: (Tile(64, 32, 4, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        256: (Tile(64, 32, 8, 2), Tile(64, 32, 8, 1), Tile(32, 32, 8, 1)),
    },
    9: {
        64: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(64, 128, 8, 2)),
        96: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(32, 128, 8, 2)),
        128: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(32, 128, 8, 2)),
        160: (Tile(128, 64, 8, 2), Tile(128, 64, 8, 2), Tile(32, 64, 8, 2)),
        256: (Tile(128, 32, 8, 2), Tile(32, 32, 4, 1), Tile(32, 32, 8, 1)),
    },
    10: {
        64: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(64, 64, 8, 2)),
        96: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(32, 128, 8, 2)),
        128: (Tile(128, 64, 8, 3), Tile(128, 32, 8, 2), Tile(32, 64, 8, 2)),
        160: (Tile(128, 64, 8, 2), Tile(128, 32, 8, 2), Tile(32, 64, 8, 2)),
        256: (Tile(128, 32, 8, 2), Tile(32, 32, 4, 1), Tile(32, 32, 8, 1)),
    },
}
# float32, in three products of tensor cores
SINGLE: dict[int, Row] = {
    64: (Tile(64, 32, 4, 2), Tile(32, 32, 4, 1), Tile(16, 32, 4, 1)),
    256: (Tile(16, 32, 4, 1), Tile(16, 32, 4, 1), Tile(16, 32, 4, 1)),
}
