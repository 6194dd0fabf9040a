"""A mask from the attention mass of blocks: rows of a head keep equally many, and heads that concentrate keep fewer."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.ops.ranks import ranks
from saccade.ops.remembered import constant

RECALL = 0.8  # a head whose blocks hold more of its attention than this can do with fewer


def choose_blocks(
    mass: Float[Tensor, "b h Q K"],
    open_: Bool[Tensor, "#b K"],
    text: Bool[Tensor, "#b K"],
    sparsity: float,
    head_adaptive: bool = True,
) -> Bool[Tensor, "b h Q K"]:
    """The blocks kept: of each row those with most mass, and every block with text in its rows or columns.

    open_, text: blocks with a token that is not padding, and with one of text. Others are never kept, nor counted.
    """
    levels = torch.zeros(mass.shape[:2], dtype=torch.int64, device=mass.device)
    common = row_wise(mass, open_, text, sparsity, levels)
    if not head_adaptive:
        return common
    return row_wise(mass, open_, text, sparsity, head_levels(recall(mass, common)))


def recall(mass: Float[Tensor, "b h Q K"], mask: Bool[Tensor, "b h Q K"]) -> Float[Tensor, "b h"]:
    """Share of a head's mass that a mask holds."""
    return (mass * mask).sum((2, 3)) / mass.sum((2, 3))


def head_levels(found: Float[Tensor, "b h"]) -> Int[Tensor, "b h"]:
    """Where a head's sparsity stands in `sparsities`, by its recall.

    As many heads as exceed `RECALL`, at most half of all, are made sparser, those with the highest recall; as many with
    the lowest are made denser. Of heads that tie the earlier counts as higher.
    """
    place, heads = ranks(found), found.shape[1]
    count = (found > RECALL).sum(1, keepdim=True).clamp(max=heads // 2)
    return (place < count) * 1 + (place >= heads - count) * 2


def sparsities(sparsity: float) -> tuple[float, float, float]:
    """The common one, that of sparser heads and that of denser ones, whose mean it is."""
    return sparsity, (1 + sparsity) / 2, max((3 * sparsity - 1) / 2, 0.0)


def kept(blocks: int, sparsity: float) -> int:
    """(1 - sparsity) of so many blocks, to the nearest, halves up; at least 1 where there is one."""
    return min(max(int((1 - sparsity) * blocks + 0.5 + 1e-9), 1), blocks)


def row_wise(
    mass: Float[Tensor, "b h Q K"],
    open_: Bool[Tensor, "#b K"],
    text: Bool[Tensor, "#b K"],
    sparsity: float,
    levels: Int[Tensor, "b h"],
) -> Bool[Tensor, "b h Q K"]:
    """Of each row the `kept` blocks with most mass, among those without text, at the level of its head; then text."""
    columns = mass.shape[3]
    counts = tuple(kept(blocks, level) for level in sparsities(sparsity) for blocks in range(columns + 1))
    table = constant(counts, mass.device).unflatten(0, (3, -1))
    wanted = table[levels, open_.sum(1)[:, None]]  # (b h)
    rest = (open_ & ~text)[:, None, None]
    chosen = ranks(mass.masked_fill(~rest, -1.0)) < wanted[..., None, None]
    return (chosen & rest) | (text[:, None, :, None] & open_[:, None, None]) | text[:, None, None]
