"""Smooth random queries and keys: how much attention a draft finds, what bounds its error, which blocks it touches."""

from collections.abc import Iterator
from math import ceil

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.layout import Grid, Layout
from saccade.experiments import Row
from saccade.papers.draft_attention.draft import Pool, draft_map, keep_strongest, patches, pool_patches


def smooth(grid: Grid, length: float, columns: int, seed: int) -> Float[Tensor, "1 h n d"]:
    """Noise under a Gaussian low-pass of `length` tokens along all axes, periodic, of variance 1; 4 heads."""
    noise = torch.randn(4, columns, *grid, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    steps = torch.stack(torch.meshgrid(*(torch.fft.fftfreq(side) for side in grid), indexing="ij"))
    window = torch.exp(-2 * (torch.pi * length) ** 2 * steps.double().square().sum(0))
    passed = torch.fft.ifftn(torch.fft.fftn(noise, dim=(2, 3, 4)) * window, dim=(2, 3, 4)).real
    return (passed / passed.std()).flatten(2).mT[None].float()


def recalls(
    grid: Grid, pool: Pool, length: float, sparsities: tuple[float, ...], columns: int, sharpness: float, seed: int
) -> Iterator[Row]:
    """Of dense attention, the share that lies in as many pairs of regions, chosen in four ways.

    sharpness  standard deviation of the scores
    """
    q, k = (smooth(grid, length, columns, 2 * seed + i) for i in range(2))
    scale = sharpness * columns**-0.5
    mass = by_region(torch.softmax(q @ k.mT * scale, dim=-1), grid, pool)
    choices = {
        "oracle": mass,
        "draft": draft_map(q, k, scale, grid, pool),
        "maxima": draft_map(q, k, scale, grid, pool, "max"),
        "random": torch.rand(mass.shape, generator=torch.Generator().manual_seed(seed)),
    }
    for sparsity in sparsities:
        for arm, values in choices.items():
            recall = (mass * keep_strongest(values, sparsity)).sum((2, 3)).mean() / q.shape[2]
            yield {"length": length, "sparsity": sparsity, "arm": arm, "recall": recall.item(), "seed": seed}


def by_region(weights: Float[Tensor, "1 h n n"], grid: Grid, pool: Pool) -> Float[Tensor, "1 h g g"]:
    """Sums over the pairs of tokens of each pair of regions."""
    member = members(grid, pool)
    return member.mT @ weights @ member


def members(grid: Grid, pool: Pool) -> Float[Tensor, "n g"]:
    """1 where a token lies in a region."""
    partition = patches(Layout.image_only(grid), pool, torch.device("cpu"))
    return torch.nn.functional.one_hot(partition.label, partition.count).float()


def bounds(grid: Grid, pool: Pool, length: float, sparsity: float, columns: int, seed: int) -> Iterator[Row]:
    """Errors of the logits over what the paper's theorems allow them: at most 1 where they hold.

    blocks   of putting every region's score in the place of its tokens' scores
    dropped  of scores put to 0 where the draft drops them; of scores of either sign, and of positive ones
    """
    q, k = (smooth(grid, length, columns, 2 * seed + i) for i in range(2))
    for sign, (a, b) in {"either": (q, k), "positive": (q.abs(), k.abs())}.items():
        scores, member = a @ b.mT * columns**-0.5, members(grid, pool)
        low = pool_patches(a, grid, pool) @ pool_patches(b, grid, pool).mT * columns**-0.5
        spread = member @ low @ member.mT
        n, delta = scores.shape[-1], (scores - spread).abs().amax((2, 3))
        kept = ceil((1 - sparsity) * low.shape[-1] ** 2)
        least = low.flatten(2).topk(kept).values[..., -1]
        mask = member @ (low >= least[..., None, None]).float() @ member.mT
        blocks = norm(scores - spread) / (delta * n)
        dropped = norm(scores - scores * mask) / (n * (delta + least) * sparsity**0.5)
        yield {
            "length": length, "sign": sign, "delta": delta.max().item(), "blocks": blocks.max().item(),
            "dropped": dropped.max().item(), "seed": seed,
        }  # fmt: skip


def norm(x: Float[Tensor, "1 h n m"]) -> Float[Tensor, "1 h"]:
    """Frobenius, of each head."""
    return x.square().sum((2, 3)).sqrt()


def touched(grid: Grid, pool: Pool, length: float, sparsity: float, size: int, seed: int) -> Row:
    """Share of blocks of `size` tokens that hold a kept pair: tokens in raster order, and sorted by region."""
    q, k = (smooth(grid, length, 16, 2 * seed + i) for i in range(2))
    keep = keep_strongest(draft_map(q, k, 16**-0.5, grid, pool), sparsity)
    member = members(grid, pool)
    order = torch.argsort(member.argmax(1), stable=True)
    raster, sorted_ = (blocks_touched(keep, one, size) for one in (member, member[order]))
    kept = keep.float().mean().item()
    about = {"rows": pool[0], "columns": pool[1], "size": size, "seed": seed}
    return about | {"kept": kept, "raster": raster, "sorted": sorted_}


def blocks_touched(keep: Bool[Tensor, "*h g g"], member: Float[Tensor, "n g"], size: int) -> float:
    """By which regions each block of tokens holds."""
    tokens = torch.nn.functional.pad(member, (0, 0, 0, -len(member) % size))
    holds = tokens.unflatten(0, (-1, size)).amax(1)
    return ((holds @ keep.float() @ holds.mT) > 0).float().mean().item()
