"""The draft: attention between patches of each frame, and which pairs of patches it keeps."""

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.inference import outside_inference
from saccade.core.layout import Grid, Layout
from saccade.core.regions import Partition

Pool = tuple[int, int]  # rows and columns of a patch
Pooling = Literal["mean", "max"]
Guard = Literal["best", "diagonal"]


def patches_along(grid: Grid, pool: Pool) -> Grid:
    """Patches in time, down and across; those at the border may be smaller."""
    return grid[0], -(-grid[1] // pool[0]), -(-grid[2] // pool[1])


def patches(layout: Layout, pool: Pool, device: torch.device) -> Partition:
    """Regions in the order of the draft: frame, row of patches, column; all other tokens are one more.

    Raises ValueError where the layout has no single grid.
    """
    return _patches(layout, pool, device) if torch.compiler.is_compiling() else _kept_patches(layout, pool, device)


@lru_cache(maxsize=64)
def _kept_patches(layout: Layout, pool: Pool, device: torch.device) -> Partition:
    with outside_inference():
        return _patches(layout, pool, device)


def _patches(layout: Layout, pool: Pool, device: torch.device) -> Partition:
    image = layout.image
    assert image.grid is not None
    frames, down, across = patches_along(image.grid, pool)
    _, high, wide = image.grid
    place = torch.arange(image.n, device=device)
    row = place // wide  # of all frames
    label = (row // high * down + row % high // pool[0]) * across + place % wide // pool[1]
    span, rest = layout.span(image.name), frames * down * across
    label = torch.nn.functional.pad(label, (span.start, layout.n - span.stop), value=rest)
    return Partition(label, rest + (layout.n > image.n))


def pool_patches(
    x: Float[Tensor, "b h n d"], grid: Grid, pool: Pool, how: Pooling = "mean"
) -> Float[Tensor, "b h g d"]:
    """Mean or maximum over the tokens of each patch, in float32 at least; a patch at the border has fewer."""
    fine, (_, high, wide), (ph, pw) = torch.promote_types(x.dtype, torch.float32), grid, pool
    short = (0, 0, 0, -wide % pw, 0, -high % ph)
    tokens = x.unflatten(2, grid)
    if any(short):
        tokens = torch.nn.functional.pad(tokens, short, value=0.0 if how == "mean" else -torch.inf)
    tiles = tokens.unflatten(3, (-1, ph)).unflatten(5, (-1, pw))  # (b h t i ph j pw d)
    if how == "max":
        return tiles.amax((4, 6)).flatten(2, 4).to(fine)
    total = tiles.sum((4, 6), dtype=fine)
    rows, columns = _counts(high, ph, x.device), _counts(wide, pw, x.device)
    return (total / (rows[:, None] * columns)[..., None]).flatten(2, 4)


def draft_map(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b hk n d"], scale: float | Tensor, grid: Grid, pool: Pool,
    how: Pooling = "mean",
) -> Float[Tensor, "b h g g"]:  # fmt: skip
    """softmax(q~ k~^T scale) of the pooled tokens of a grid. Cost: 1 / (ph pw)^2 of the products of dense attention."""
    low_q, low_k = (pool_patches(x, grid, pool, how) for x in (q, k))
    low_k = low_k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return torch.softmax(low_q @ low_k.mT * scale, dim=-1)


def keep_strongest(draft: Float[Tensor, "b h g g"], sparsity: float) -> Bool[Tensor, "b h g g"]:
    """Per head, over the whole map, all values that reach the m-th smallest, m = int(sparsity g^2); all for m = 0.

    So one more than g^2 - m stay, and more where values tie with the threshold.
    """
    flat = draft.flatten(2)
    dropped = int(sparsity * flat.shape[2])
    if dropped == 0:
        return torch.ones_like(draft, dtype=torch.bool)
    return draft >= flat.kthvalue(dropped).values[..., None, None]


def guarded(keep: Bool[Tensor, "b h g g"], draft: Float[Tensor, "b h g g"], guard: Guard) -> Bool[Tensor, "b h g g"]:
    """No region without a key: each keeps its best one, which changes only those that lost all, or itself."""
    if guard == "diagonal":
        return keep | torch.eye(keep.shape[-1], dtype=torch.bool, device=keep.device)
    return keep.scatter(-1, draft.argmax(-1, keepdim=True), True)


def _counts(tokens: int, side: int, device: torch.device) -> Int[Tensor, " i"]:
    """Tokens of each of the patches along a side."""
    starts = torch.arange(0, tokens, side, device=device)
    return (tokens - starts).clamp(max=side)
