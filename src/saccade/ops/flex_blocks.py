"""What FlexAttention reads: numbers of mixed and of full blocks, token maps of mixed ones, options of its kernel."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from saccade.core.blocks import FULL, MIXED
from saccade.ops.pattern import Pattern, Size
from saccade.ops.sdpa_cuda import capability

Listed = tuple[Int[Tensor, "b h R"], Int[Tensor, "b h R C"]]  # how many blocks each row has, and their numbers

# BLOCK_M, BLOCK_N, num_warps, num_stages by the wider of both widths, rounded up to a power of two as FlexAttention
# does; tests/cuda/test_flex_build.py builds them. LARGE: for 227 KB of shared memory, SMALL: for 99 KB.
# ROWS_GUARANTEED_SAFE stays unset: it gives NaN to a row that sees nothing in its first mixed block.
LARGE = {64: (128, 64, 8, 3), 128: (128, 128, 8, 2), 256: (128, 32, 8, 2)}
SMALL = {64: (128, 64, 8, 3), 128: (128, 32, 8, 3)}
OPTIONS = {8: SMALL, 9: LARGE, 10: LARGE, 12: SMALL}  # by the major number of the compute capability
LEAST = 64


class BlockLists(NamedTuple):
    """mixed, full: blocks by row; by_key: the same by column, for the backward; keep: keys not padded, in order."""

    map: UInt8[Tensor, "b h Q K"]
    mixed: Listed
    full: Listed
    by_key: tuple[Listed, Listed] | None
    tile_of: Int[Tensor, "b h Q K"]
    tiles: Bool[Tensor, "T s c"]
    keep: Bool[Tensor, "#b m"] | None = None


def block_lists(found: Pattern, blocks_q: int, blocks_k: int, trains: bool) -> BlockLists:
    """The lists of a pattern, filled up to so many blocks and to a power of two of tiles."""
    assert found.tiles is not None
    grow = (0, blocks_k - found.map.shape[3], 0, blocks_q - found.map.shape[2])
    map_, tile_of = (torch.nn.functional.pad(x, grow) for x in (found.map, found.tile_of))
    tiles = torch.nn.functional.pad(found.tiles, (0, 0, 0, 0, 0, power_of_two(len(found.tiles)) - len(found.tiles)))
    return _listed(map_, tile_of, tiles, trains)


def with_padding(lists: BlockLists, keep: Bool[Tensor, "#b m"], found: Pattern) -> BlockLists:
    """The same with padded keys closed: full blocks that hold one become mixed. Waits for nothing."""
    keep = keep if found.order_k is None else keep.index_select(1, found.order_k)
    keep = torch.nn.functional.pad(keep, (0, lists.map.shape[3] * found.size[1] - keep.shape[1]), value=True)
    whole = keep.unflatten(1, (-1, found.size[1])).all(-1)[:, None, None]
    map_ = torch.where(whole, lists.map, lists.map.clamp(max=MIXED))
    return _listed(map_, lists.tile_of, lists.tiles, lists.by_key is not None)._replace(keep=keep)


def block_mask(lists: BlockLists, size: Size) -> BlockMask:
    """The lists as FlexAttention takes them; the token map of mixed blocks is read from the tiles."""
    tile_of, tiles, keep = lists.tile_of, lists.tiles, lists.keep
    by_batch, by_head = tile_of.shape[0] > 1, tile_of.shape[1] > 1
    shift_q, shift_k = (s.bit_length() - 1 for s in size)  # sizes are powers of two; `//` would mind the sign

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        tile = tile_of[b * by_batch, h * by_head, i >> shift_q, j >> shift_k]
        allowed = tiles[tile, i & (size[0] - 1), j & (size[1] - 1)]
        return allowed if keep is None else allowed & keep[b * (keep.shape[0] > 1), j]

    (mixed_q, full_q) = lists.by_key or ((None, None), (None, None))
    lengths = lists.map.shape[2] * size[0], lists.map.shape[3] * size[1]
    return BlockMask(lengths, *lists.mixed, *lists.full, *mixed_q, *full_q, BLOCK_SIZE=size, mask_mod=seen)


def options(q: Tensor, v: Tensor, size: Size) -> dict[str, int] | None:
    """Tiles, warps and stages of the forward kernel; None leaves them to torch."""
    if not q.is_cuda or q.dtype.itemsize != 2:
        return None
    columns = max(power_of_two(max(q.shape[-1], v.shape[-1])), LEAST)
    known = OPTIONS.get(capability(q), {}).get(columns)
    if known is None:
        return None
    tile_q, tile_k, warps, stages = known
    fitted = {"BLOCK_M": min(tile_q, size[0]), "BLOCK_N": min(tile_k, size[1])}
    return {f"fwd_{name}": x for name, x in (fitted | {"num_warps": warps, "num_stages": stages}).items()}


def power_of_two(n: int) -> int:
    """The least one that is no smaller."""
    return 1 << (n - 1).bit_length()


def _listed(map_: Tensor, tile_of: Tensor, tiles: Tensor, trains: bool) -> BlockLists:
    mixed, full = map_ == MIXED, map_ == FULL
    by_key = (_numbers(mixed.mT), _numbers(full.mT)) if trains else None
    return BlockLists(map_, _numbers(mixed), _numbers(full), by_key, tile_of, tiles)


def _numbers(chosen: Bool[Tensor, "b h R C"]) -> Listed:
    """First ones first."""
    count = chosen.sum(-1).to(torch.int32)
    return count, torch.argsort(~chosen, dim=-1, stable=True).to(torch.int32)
