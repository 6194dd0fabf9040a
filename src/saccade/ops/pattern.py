"""A mask as blocks: which blocks of keys each block of queries reads, and the token map inside blocks that are mixed.

A pattern belongs to a token order and a block size and lists the blocks that are computed, no others. Equal tiles are
kept once, tile 0 is all open; a short last block of keys is mixed, so that its missing keys are never seen.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from saccade.core.blocks import EMPTY, FULL, MIXED, Bound
from saccade.core.coarse import blocks
from saccade.core.features import numbered
from saccade.core.layout import Layout
from saccade.core.regions import Partition
from saccade.core.survey import Survey
from saccade.ops.block_cost import BlockCost
from saccade.ops.orders import Order, inverse, tokens

TILE_BYTES = 1 << 28  # of distinct tiles, beyond which a mask is no block mask

Size = tuple[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pattern:
    """The computed blocks in the order of their query blocks, full ones first.

    shape: batch rows and heads distinguished, blocks of queries, blocks of keys (b h Q K).
    order_q, order_k: token numbers in the order used, filled up to whole blocks, None where unchanged and whole.
    back: where each query's row of the output lies, None where nothing moved.
    rows, cols, which: of each block its query block, numbered over b h Q, its key block and its tile.
    tiles is None where too many differ; all blocks not known to be full are then listed, as tile 1.
    gaps: whether blocks that are not whole stand before others, filled up with repeated tokens; the tiles close those.
    """

    size: Size
    n: int
    m: int
    shape: tuple[int, int, int, int]
    order: Order | Partition | None
    order_q: Int[Tensor, " nq"] | None
    order_k: Int[Tensor, " mk"] | None
    back: Int[Tensor, " n"] | None
    rows: Int[Tensor, " P"]
    cols: Int[Tensor, " P"]
    which: Int[Tensor, " P"]
    tiles: Bool[Tensor, "T s c"] | None
    gaps: bool = False

    @property
    def area(self) -> float:
        """Share of the blocks that is computed, in [0, 1]."""
        return self.kept / max(self.shape[0] * self.shape[1] * self.shape[2] * self.shape[3], 1)

    @property
    def kept(self) -> int:
        """Number of blocks computed, over the batch rows and heads distinguished."""
        return len(self.cols)

    @property
    def lengths(self) -> Size:
        """Queries and keys in whole blocks, fillers counted."""
        return self.shape[2] * self.size[0], self.shape[3] * self.size[1]

    @cached_property
    def mixed(self) -> int:
        """How many of them have a token map."""
        if self.tiles is not None and len(self.tiles) == 1:  # known without waiting for the device
            return 0
        return int((self.which > 0).sum())

    @property
    def computed(self) -> float:
        """Pairs of the computed blocks over all pairs there are."""
        return self.kept * self.size[0] * self.size[1] / max(self.shape[0] * self.shape[1] * self.n * self.m, 1)

    def share(self, b: int, h: int) -> int:
        """Number of blocks computed for b batch rows and h heads."""
        return self.kept * (b // self.shape[0]) * (h // self.shape[1])

    def time(self, cost: BlockCost) -> float:
        """What the blocks take, over the time of the best dense kernel for all pairs."""
        open_ = 1 - self.mixed / max(self.kept, 1)
        return self.computed * (cost.full * open_ + cost.mixed * (1 - open_))

    @cached_property
    def map(self) -> UInt8[Tensor, "b h Q K"]:
        """EMPTY, MIXED or FULL for every block there is; for kernels that take lists as long as the square."""
        return self._dense(torch.where(self.which > 0, MIXED, FULL).to(torch.uint8), EMPTY)

    @cached_property
    def tile_of(self) -> Int[Tensor, "b h Q K"]:
        """The tile of every block there is."""
        return self._dense(self.which.to(torch.int32), 0)

    def _dense(self, values: Tensor, rest: int) -> Tensor:
        flat = values.new_full((self.shape[0] * self.shape[1] * self.shape[2], self.shape[3]), rest)
        flat[self.rows.long(), self.cols.long()] = values
        return flat.view(self.shape)


def pattern(bound: Bound, layout_q: Layout, layout_k: Layout, size: Size, order: Order | None = None) -> Pattern:
    """The pattern of a mask for one block size, with the tokens in `order`."""
    order_q, order_k = orders(order, layout_q, layout_k, bound.device)
    q, k = (blocks(o, s) for o, s in zip((order_q, order_k), size, strict=True))
    found = bound.survey(q, k)
    which, tiles = _tiles(found, torch.arange(k.numel(), device=k.device).view(k.shape) < bound.m)
    rows, cols, which = _listed(found, which)
    moved = order is not None and tokens(order, layout_q) is not None
    return Pattern(
        size=size, n=bound.n, m=bound.m, shape=(bound.batch, bound.heads, len(q), len(k)), order=order,
        order_q=q.flatten() if moved or bound.n % size[0] else None,
        order_k=k.flatten() if moved or bound.m % size[1] else None,
        back=inverse(order_q) if moved else None, rows=rows, cols=cols, which=which, tiles=tiles,
    )  # fmt: skip


def orders(
    order: Order | None, layout_q: Layout, layout_k: Layout, device: torch.device
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """Numbers of queries and keys in an order; None is the one they are in."""
    found = [tokens(order, layout) for layout in (layout_q, layout_k)]
    q, k = (torch.arange(x.n) if o is None else o for o, x in zip(found, (layout_q, layout_k), strict=True))
    return q.to(device), k.to(device)


def _listed(found: Survey, which: Int[Tensor, "bh U"]) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, cols, which) of full blocks and of those looked at that are not empty."""
    of_pair = which[:, found.like]
    head, pair = (of_pair >= 0).nonzero(as_tuple=True)
    rows = torch.cat((found.rows, head * len(found.q) + found.i[pair]))
    cols = torch.cat((found.cols, found.j[pair]))
    tile = torch.cat((torch.zeros_like(found.rows), of_pair[head, pair]))
    places = torch.argsort((rows * 2 + (tile > 0)) * len(found.k) + cols)
    return rows[places].int(), cols[places].int(), tile[places].int()


def _tiles(found: Survey, real: Bool[Tensor, "K c"]) -> tuple[Int[Tensor, "bh U"], Tensor | None]:
    """For each batch row and head and kind of block its tile, -1 where empty; and the distinct tiles."""
    whole = torch.ones(1, found.q.shape[1], found.k.shape[1], dtype=torch.bool, device=found.k.device)
    tiles, known = [whole], {}
    which = [_numbers(whole, tiles[:0], known)[:0].view(found.times, 0)]
    for at, allowed in found.looked():
        maps = (allowed & real[found.j[at]][:, None]).flatten(0, 2)
        which.append(_numbers(maps, tiles, known).view(found.times, -1))
        if len(known) * whole.numel() > TILE_BYTES:
            return torch.ones(found.times, len(found.first), dtype=torch.int64, device=real.device), None
    return torch.cat(which, dim=1).to(real.device), torch.cat(tiles)


def _numbers(maps: Bool[Tensor, "p s c"], tiles: list[Tensor], known: dict[bytes, int]) -> Int[Tensor, " p"]:
    """Each map's number, -1 for an empty one; those not met before are added to `tiles`."""
    number, some = torch.full((len(maps),), -1), maps.flatten(1).any(1).cpu()
    before, bits = len(known), numpy.packbits(maps[some.to(maps.device)].flatten(1).cpu().numpy(), axis=1)
    number[some] = numbered(torch.from_numpy(bits), known)
    highest = torch.nn.functional.pad(number.cummax(0).values[:-1], (1, 0), value=-1).clamp(min=before - 1)
    tiles.append(maps[(number > highest).to(maps.device)])
    return number
