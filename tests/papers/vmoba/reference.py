"""VMoBA written out: one query, one pair, one sum at a time, in float64."""

from itertools import product

import torch
from torch import Tensor

Pair = tuple[int, int, int]  # head, chunk, query


def groups(scope: str, heads: int, chunks: int, queries: int) -> list[list[Pair]]:
    """The pairs that compete with one another, in the order in which ties are broken."""
    every = list(product(range(chunks), range(heads), range(queries)))
    found: dict[tuple[int, ...], list[Pair]] = {}
    for c, h, s in every:
        key = {"head_global": (h,), "query_head": (h, s), "block": (c,), "overall": ()}[scope]
        found.setdefault(key, []).append((h, c, s))
    return list(found.values())


def kept_by_sum(gate: Tensor, own: Tensor, pairs: list[Pair], tau: float, forced: bool) -> set[Pair]:
    values = {p: gate[p].item() for p in pairs}
    low, high = min(values.values()), max(values.values())
    if high == low:
        values = dict.fromkeys(pairs, 1.0)
    else:
        values = {p: (value - low) / (high - low) for p, value in values.items()}
    total, mine = sum(values.values()), {p for p in pairs if forced and own[p[1], p[2]]}
    need, reached, taken = max(0.0, tau - sum(values[p] for p in mine) / total), 0.0, set(mine)
    for p in sorted((p for p in pairs if p not in mine), key=lambda p: -values[p]):
        taken.add(p)
        reached += values[p] / total
        if reached >= need:
            break
    return taken


def kept_by_number(gate: Tensor, own: Tensor, pairs: list[Pair], number: int) -> set[Pair]:
    ranked = sorted(pairs, key=lambda p: -(gate[p].item() + 1e9 * own[p[1], p[2]].item()))
    return set(ranked[:number])


def chunk_of(blocks: tuple[float, ...], grid: tuple[int, int, int], t: int, y: int, x: int) -> int:
    """One number for frames, two for a tile, three for a box."""
    _, h, w = grid
    if len(blocks) == 1:
        return ((t * h + y) * w + x) // int(blocks[0] * h * w)
    if len(blocks) == 2:
        ch, cw = map(int, blocks)
        return (y // ch) * (w // cw) + x // cw
    ct, ch, cw = map(int, blocks)
    return ((t // ct) * (h // ch) + y // ch) * (w // cw) + x // cw


def labels(blocks: tuple[float, ...], grid: tuple[int, int, int]) -> Tensor:
    return torch.tensor([chunk_of(blocks, grid, *at) for at in product(*map(range, grid))])


def gates(q: Tensor, k: Tensor, label: Tensor) -> Tensor:
    """(h c s) of one sample, (h n d) each."""
    means = torch.stack([k[:, label == c].mean(1) for c in range(int(label.max()) + 1)])
    return torch.einsum("chd,hsd->hcs", means, q)


def masked(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1) @ v
