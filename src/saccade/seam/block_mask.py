"""A host's `BlockMask`, as torch's flex attention takes it, made part of the call.

Compiled, flex computes the blocks it lists and no others. Run eagerly, torch asks the code of the mask for every pair
and never looks at the blocks: of a mask without code it then computes all pairs. Here blocks that are not listed are
closed, compiled or not.
"""

from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, noop_mask

from saccade.core.masks import KeyPadding, Mask
from saccade.core.regions import Partition
from saccade.core.site import Site
from saccade.ops.remembered import remembered
from saccade.seam.host_blocks import HostBlocks


def read_block_mask(
    mask: BlockMask, site: Site, n: int, m: int, heads: Tensor | None = None, order: Tensor | None = None
) -> Mask:
    """The mask of a call of n queries and m keys.

    heads  those that are chosen, None for all
    order  the host's number of the token at each place of the layout, where it has them in another order
    Raises ValueError for a mask of other lengths.
    """
    if tuple(mask.seq_lengths) != (n, m):
        raise ValueError(
            f"the block mask of site '{site.name}' is made for {mask.seq_lengths} queries and keys, the call has "
            f"{(n, m)}; make it for these, as create_block_mask(..., Q_LEN={n}, KV_LEN={m})"
        )
    if order is not None or (heads is not None and mask.kv_indices.ndim > 3 and mask.kv_indices.shape[1] > 1):
        return _read(mask, n, m, heads, order)
    return remembered(mask.kv_indices, ("block mask", mask.mask_mod), lambda: _read(mask, n, m, None, None))


def _read(mask: BlockMask, n: int, m: int, heads: Tensor | None, order: Tensor | None) -> Mask:
    blocks = _blocks(mask, n, m)
    blocks = blocks if heads is None else blocks.of_heads(heads)
    return _apart(blocks if order is None else _ordered(blocks, order))


def _blocks(mask: BlockMask, n: int, m: int) -> HostBlocks:
    part = _listed(mask.kv_num_blocks, mask.kv_indices)
    counts, numbers = mask.full_kv_num_blocks, mask.full_kv_indices
    whole = torch.zeros_like(part) if counts is None or numbers is None else _listed(counts, numbers)
    code = None if mask.mask_mod is noop_mask else mask.mask_mod
    size_q, size_k = mask.BLOCK_SIZE
    of_q = _runs(n, size_q, part.device)
    of_k = of_q if (n, size_q) == (m, size_k) else _runs(m, size_k, part.device)
    return HostBlocks(whole | part if code is None else whole, part, of_q, of_k, code)


def _listed(counts: Int[Tensor, "*bh Q"], numbers: Int[Tensor, "*bh Q K"]) -> Bool[Tensor, "b h Q K"]:
    """Which blocks are listed: of each row the first `counts` of its `numbers`."""
    there = torch.arange(numbers.shape[-1], device=numbers.device) < counts[..., None]
    listed = torch.zeros_like(numbers).scatter_add(-1, numbers.long(), there.to(numbers.dtype)) > 0
    return listed[(None,) * (4 - listed.ndim)]


def _runs(n: int, size: int, device: torch.device) -> Partition:
    made = _made.__wrapped__ if torch.compiler.is_compiling() else _made  # a graph cannot hold the cache
    return made(n, size, device)


@lru_cache(maxsize=32)
def _made(n: int, size: int, device: torch.device) -> Partition:
    with torch.inference_mode(False):
        return Partition(torch.arange(n, device=device) // size, -(-n // size))


def _ordered(blocks: HostBlocks, order: Int[Tensor, " n"]) -> HostBlocks:
    """The same over tokens in another order, queries and keys alike."""
    old, code = blocks.of_q, blocks.code
    of = remembered(order, ("blocks", old.count, old.n), lambda: Partition(old.label[order], old.count))
    own = None if code is None else lambda b, h, q, k: code(b, h, order[q], order[k])
    return replace(blocks, of_q=of, of_k=of, code=own)


def _apart(blocks: HostBlocks) -> Mask:
    """A key nobody sees is padding; kept apart, a query that sees nothing keeps a key in the rest."""
    if blocks.code is None:
        return blocks
    seen = blocks.seen()
    if not torch.compiler.is_compiling() and bool(seen.all()):
        return blocks
    return (blocks | KeyPadding(~seen)) & KeyPadding(seen)
