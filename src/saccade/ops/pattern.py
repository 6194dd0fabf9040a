"""A mask as blocks: which blocks of keys each block of queries reads, and the token map inside blocks that are mixed.

A pattern belongs to a token order and a block size. Equal tiles are kept once, tile 0 is all open; a short
last block of keys is mixed, so that its missing keys are never seen.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from saccade.core.blocks import MIXED, Bound
from saccade.core.layout import Layout
from saccade.ops.orders import Order, candidates, inverse, tokens

TIGHT = 0.85  # share of computed pairs that is allowed, above which no other order is tried
GAIN = 0.9  # an order must leave at most this share of the blocks to pay for the permutation
TILE_BYTES = 1 << 28  # of distinct tiles, beyond which a mask is no block mask
PAIRS = 1 << 22  # pairs looked at together

Size = tuple[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pattern:
    """order_q, order_k: token numbers in the order used, filled up to whole blocks, None where unchanged and whole.

    back: where each query's row of the output lies, None where nothing moved. tiles is None where too many differ.
    """

    size: Size
    n: int
    m: int
    order: Order | None
    order_q: Int[Tensor, " nq"] | None
    order_k: Int[Tensor, " mk"] | None
    back: Int[Tensor, " n"] | None
    map: UInt8[Tensor, "b h Q K"]
    tile_of: Int[Tensor, "b h Q K"]
    tiles: Bool[Tensor, "T s c"] | None

    @property
    def area(self) -> float:
        """Share of the blocks that is computed, in [0, 1]."""
        return self.kept / max(self.map.numel(), 1)

    @property
    def kept(self) -> int:
        """Number of blocks computed, over the batch rows and heads distinguished."""
        return int((self.map > 0).sum())


def pattern(bound: Bound, layout_q: Layout, layout_k: Layout, size: Size) -> Pattern:
    """The tightest pattern of a mask for one block size; the tokens' own order unless another saves a tenth."""
    best, best_map = None, bound.block_map(*size)
    area = _area(best_map)
    if bound.density() < TIGHT * area:
        for order in candidates(layout_q, size[0])[1:]:
            map_ = bound.block_map(*size, *_orders(order, layout_q, layout_k, bound.device))
            if _area(map_) < GAIN * area:
                best, best_map, area = order, map_, _area(map_)
    return _made(bound, best_map, best, _orders(best, layout_q, layout_k, bound.device), size)


def _orders(order: Order | None, layout_q: Layout, layout_k: Layout, device: torch.device) -> list[Tensor | None]:
    return [None if o is None else o.to(device) for o in (tokens(order, layout_q), tokens(order, layout_k))]


def _area(map_: UInt8[Tensor, "b h Q K"]) -> float:
    return (map_ > 0).float().mean().item()


def _made(bound: Bound, map_: Tensor, order: Order | None, orders: list[Tensor | None], size: Size) -> Pattern:
    order_q, order_k = (
        _filled(o, n, s, bound.device) for o, n, s in zip(orders, (bound.n, bound.m), size, strict=True)
    )
    if bound.m % size[1]:
        map_ = map_.clone()
        map_[..., -1].clamp_(max=MIXED)
    tiles, tile_of = _tiles(bound, map_, order_q, order_k, size)
    back = None if orders[0] is None else inverse(orders[0])
    return Pattern(
        size=size, n=bound.n, m=bound.m, order=order, order_q=order_q, order_k=order_k, back=back, map=map_,
        tile_of=tile_of, tiles=tiles,
    )  # fmt: skip


def _filled(order: Tensor | None, n: int, size: int, device: torch.device) -> Tensor | None:
    """The order up to whole blocks, its end repeated; None where the tokens already are what is wanted."""
    short = -n % size
    if order is None and not short:
        return None
    order = torch.arange(n, device=device) if order is None else order
    return torch.cat((order, order[-1:].expand(short)))


def _tiles(
    bound: Bound, map_: Tensor, order_q: Tensor | None, order_k: Tensor | None, size: Size
) -> tuple[Tensor | None, Tensor]:
    """Distinct token maps of the mixed blocks, and which of them each block has."""
    tile_of = torch.zeros_like(map_, dtype=torch.int32)
    at = (map_ == MIXED).nonzero()
    found: list[Tensor] = [torch.ones(1, *size, dtype=torch.bool, device=bound.device)]
    numbers: dict[int, int] = {}
    rows = _blocks(order_q, bound.n, size[0], bound.device)
    keys = _blocks(order_k, bound.m, size[1], bound.device)
    real = torch.arange(keys.numel(), device=bound.device).reshape(keys.shape) < bound.m
    which = []
    for part in at.split(max(PAIRS // (size[0] * size[1]), 1)):
        b, h, i, j = part.T[..., None, None]
        allowed = (
            bound.allows(b, h, rows[i[:, 0, 0]][:, :, None], keys[j[:, 0, 0]][:, None]) & real[j[:, 0, 0]][:, None]
        )
        which.append(_number(allowed.expand(len(part), *size), found, numbers))
        if len(numbers) * size[0] * size[1] > TILE_BYTES:
            return None, tile_of
    if which:
        tile_of[tuple(at.T)] = torch.cat(which).to(tile_of)
    return torch.cat(found), tile_of


def _blocks(order: Tensor | None, n: int, size: int, device: torch.device) -> Int[Tensor, "B {size}"]:
    order = torch.arange(n, device=device) if order is None else order
    return order.reshape(len(order) // size, size)


def _number(allowed: Bool[Tensor, "p s c"], found: list[Tensor], numbers: dict[int, int]) -> Int[Tensor, " p"]:
    """Each tile's number; tiles not met before are added to `found`."""
    marks = _hashes(allowed).tolist()
    fresh = {mark: at for at, mark in reversed(list(enumerate(marks))) if mark not in numbers}
    for mark in fresh:
        numbers[mark] = len(numbers) + 1
    if fresh:
        found.append(allowed[torch.tensor(list(fresh.values()), device=allowed.device)])
    return torch.tensor([numbers[mark] for mark in marks], dtype=torch.int64)


def _hashes(allowed: Bool[Tensor, "p s c"]) -> Int[Tensor, " p"]:
    """A sum of one fixed random 64-bit number per open pair, modulo 2^64: different tiles share one by chance 2^-64."""
    flat = allowed.flatten(1)
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, (flat.shape[1],), generator=generator)
    return (flat * factors.to(flat.device)).sum(-1)
