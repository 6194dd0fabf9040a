"""How much a program of the kernel holds: widths as two powers of two, and a table of tiles by card, width and type.

The table is made from builds without a card (`saccade reproduce cuda_kernel`): no register is spilled, and what a program
shares fits the card. Nothing is tried out at run time.
"""

from dataclasses import dataclass, replace
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
    kind = "single" if dtype == torch.float32 else "half"
    generation = "old" if capability < (9, 0) else "new"
    row = next(tiles for most, tiles in TABLE[generation, kind].items() if wide <= most)
    return cut(row[which], size)


def cut(tile: Tile, size: Size) -> Tile:
    """The tile for smaller blocks: it must divide them; fewer queries take fewer warps, from four on."""
    queries, keys = min(tile.queries, size[0]), min(tile.keys, size[1])
    warps = max(tile.warps * queries // tile.queries, min(tile.warps, 4))
    return replace(tile, queries=queries, keys=keys, warps=warps)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _row(forward: Size, queries: Size, keys: Size, warps: int, stages: tuple[int, int, int]) -> dict[str, Tile]:
    sizes = {"forward": forward, "queries": queries, "keys": keys}
    return {
        name: Tile(*size, warps, count)
        for (name, size), count in zip(sizes.items(), stages, strict=True)
    }


# By (generation, type) and the widest of q, k and v: sm_80 to sm_89 have less shared memory than sm_90 and later
TABLE: dict[tuple[str, str], dict[int, dict[str, Tile]]] = {
    ("new", "half"): {
        64: _row((128, 64), (128, 64), (64, 128), 8, (3, 2, 2)),
        96: _row((128, 64), (128, 64), (32, 128), 8, (3, 2, 2)),
        128: _row((128, 64), (128, 64), (32, 128), 8, (3, 2, 2)),
        160: _row((128, 64), (128, 64), (32, 64), 8, (2, 2, 2)),
        256: _row((128, 32), (64, 32), (32, 64), 8, (2, 1, 1)),
    },
    ("old", "half"): {
        64: _row((128, 64), (128, 64), (64, 64), 8, (3, 2, 2)),
        96: _row((128, 64), (128, 64), (32, 64), 8, (2, 2, 2)),
        128: _row((128, 64), (128, 32), (32, 64), 8, (2, 2, 2)),
        160: _row((128, 32), (64, 32), (32, 64), 8, (2, 2, 2)),
        256: _row((128, 32), (64, 32), (32, 32), 8, (2, 1, 1)),
    },
    ("new", "single"): {
        64: _row((64, 32), (64, 32), (16, 32), 4, (2, 1, 1)),
        256: _row((16, 32), (16, 32), (16, 32), 4, (1, 1, 1)),
    },
    ("old", "single"): {
        64: _row((64, 32), (64, 32), (16, 32), 4, (2, 1, 1)),
        256: _row((16, 32), (16, 32), (16, 32), 4, (1, 1, 1)),
    },
}
