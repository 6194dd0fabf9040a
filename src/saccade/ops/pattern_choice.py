"""Which block size and token order a mask is computed in: those whose predicted time is least.

Choices are compared by a sample: some query blocks, judged against all key blocks, and a look at a few of those that
stay unsure. So a choice takes about as long for a quarter of a million tokens as for a thousand.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.blocks import Bound
from saccade.core.coarse import blocks
from saccade.core.layout import Layout
from saccade.ops.block_cost import BlockCost
from saccade.ops.orders import Order, candidates
from saccade.ops.pattern import Pattern, orders, pattern

TIGHT = 0.85  # share of computed pairs that is allowed, above which no other order is tried
GAIN = 0.9  # an order must take at most this share of the time to pay for the permutation
ROWS = 64  # query blocks judged for an estimate
JUDGED = 1 << 21  # verdicts of an estimate, beyond which fewer query blocks are judged
PAIRS = 1 << 20  # pairs of tokens looked at for an estimate


@dataclass(frozen=True)
class Trial:
    """A block size in a token order: the share of the pairs it is estimated to compute, and its time over dense."""

    cost: BlockCost
    order: Order | None
    computed: float
    time: float


def cheapest(bound: Bound, layout_q: Layout, layout_k: Layout, costs: tuple[BlockCost, ...]) -> Pattern:
    """The pattern predicted to take least; the tokens' own order unless another saves a tenth."""
    trials = [trial for cost in costs for trial in _trials(bound, layout_q, layout_k, cost)]
    best = min(trials, key=lambda trial: trial.time * (GAIN if trial.order is None else 1))
    return pattern(bound, layout_q, layout_k, best.cost.size, best.order)


def cost_of(found: Pattern, costs: tuple[BlockCost, ...]) -> float:
    """Predicted time of a pattern over that of the best dense kernel; its size must be among those of `costs`."""
    return found.time(next(cost for cost in costs if cost.size == found.size))


def _trials(bound: Bound, layout_q: Layout, layout_k: Layout, cost: BlockCost) -> list[Trial]:
    own = tried(bound, layout_q, layout_k, cost, None)
    if bound.density() >= TIGHT * own.computed:
        return [own]
    others = candidates(layout_q, cost.size[0])[1:]
    return [own, *(tried(bound, layout_q, layout_k, cost, order) for order in others)]


def tried(bound: Bound, layout_q: Layout, layout_k: Layout, cost: BlockCost, order: Order | None) -> Trial:
    """An estimate from a sample; exact where all query blocks are in it and all verdicts are sure."""
    q, k = (blocks(o, s) for o, s in zip(orders(order, layout_q, layout_k, bound.device), cost.size, strict=True))
    i = _sample(len(q), JUDGED // (len(k) * bound.batch * bound.heads)).to(q.device)
    verdict = bound.coarse(q, k)(i[:, None], torch.arange(len(k), device=k.device))
    shape = (bound.batch, bound.heads, len(i), len(k))
    some, every = verdict.some.expand(shape), verdict.every.expand(shape)
    unsure = some & ~every
    kept, open_ = _looked(bound, q[i], k, unsure)
    sure, doubt = (float(flags.float().mean()) for flags in (some & every, unsure))
    whole = q.numel() * k.numel() / (bound.n * bound.m)
    full, mixed = (sure + doubt * open_) * whole, doubt * (kept - open_) * whole
    return Trial(cost, order, full + mixed, full * cost.full + mixed * cost.mixed)


def _sample(blocks: int, room: int) -> Int[Tensor, " r"]:
    """Numbers of query blocks drawn without regard to any grid, the same each time."""
    drawn = torch.randperm(blocks, generator=torch.Generator().manual_seed(0))
    return drawn[: min(ROWS, max(room, 8))].sort().values


def _looked(bound: Bound, q: Tensor, k: Tensor, unsure: Bool[Tensor, "b h r K"]) -> tuple[float, float]:
    """Of the unsure blocks the share that is not empty, and the share that is full, from some of them."""
    at = unsure.nonzero()
    count = min(max(PAIRS // (q.shape[1] * k.shape[1]), 1), len(at))
    if not count:
        return 0.0, 0.0
    b, h, i, j = at[torch.linspace(0, len(at) - 1, count, device=at.device).long()].T
    allowed = bound.allows(b[:, None, None], h[:, None, None], q[i][:, :, None], k[j][:, None])
    flat = allowed.expand(count, q.shape[1], k.shape[1]).flatten(1)
    return float(flat.any(1).float().mean()), float(flat.all(1).float().mean())
