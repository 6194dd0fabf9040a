"""Which block size and token order a mask is computed in: those whose predicted time is least.

Choices are compared by a sample: some query blocks, judged against all key blocks, and a look at a few of those that
stay unsure. So the choice costs little even for a quarter of a million tokens.
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
from saccade.ops.pattern import Size, orders

TIGHT = 0.85  # share of computed pairs that is allowed, above which no other order is tried
GAIN = 0.9  # an order must take at most this share of the time to pay for the permutation
ROWS = 32  # query blocks judged for an estimate
JUDGED = 1 << 20  # verdicts of an estimate, beyond which fewer query blocks are judged
PAIRS = 1 << 19  # pairs of tokens looked at for an estimate


@dataclass(frozen=True)
class Trial:
    """A block size in a token order: the share of the pairs it is estimated to compute, and its time over dense."""

    cost: BlockCost
    order: Order | None
    computed: float
    time: float


def cheapest(
    bound: Bound, layout_q: Layout, layout_k: Layout, costs: tuple[BlockCost, ...]
) -> tuple[Size, Order | None]:
    """Block size and token order predicted to take least; the tokens' own order unless another saves a tenth."""
    own = [tried(bound, layout_q, layout_k, cost, None) for cost in costs]
    loose = bound.density() < TIGHT * min(trial.computed for trial in own)
    others = [
        tried(bound, layout_q, layout_k, cost, order)
        for cost in costs if loose
        for order in candidates(layout_q, cost.size[0])[1:]
    ]  # fmt: skip
    best = min((*own, *others), key=lambda trial: trial.time * (GAIN if trial.order is None else 1))
    return best.cost.size, best.order


def tried(bound: Bound, layout_q: Layout, layout_k: Layout, cost: BlockCost, order: Order | None) -> Trial:
    """An estimate: query blocks open to all keys count as they are, and of the others some are judged."""
    q, k = (blocks(o, s) for o, s in zip(orders(order, layout_q, layout_k, bound.device), cost.size, strict=True))
    rest = (~_open_to_all(bound, q, k)).nonzero()[:, 0]
    i = _sample(rest, JUDGED // (len(k) * bound.batch * bound.heads))
    every_q, every_k = (torch.arange(len(x), device=q.device) for x in (i, k))
    verdict = bound.coarse(q[i], k)(every_q[:, None], every_k)
    some, every = (flags.expand(bound.batch, bound.heads, len(i), len(k)) for flags in (verdict.some, verdict.every))
    kept, open_ = _looked(bound, q[i], k, some & ~every)
    judged, doubt = len(rest) / len(q), _share(some & ~every)
    full = 1 - judged + judged * (_share(some & every) + doubt * open_)
    mixed = judged * doubt * (kept - open_)
    whole = q.numel() * k.numel() / (bound.n * bound.m)
    return Trial(cost, order, whole * (full + mixed), whole * (full * cost.full + mixed * cost.mixed))


def _open_to_all(bound: Bound, q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Bool[Tensor, " Q"]:
    """Query blocks that surely see every key, as those of text may: few, and each as much work as a hundred others."""
    one = torch.zeros(1, dtype=torch.int64, device=q.device)
    verdict = bound.coarse(q, k.flatten()[None])(torch.arange(len(q), device=q.device), one)
    return verdict.every.flatten(0, 1).all(0).expand(len(q))


def _sample(numbers: Int[Tensor, " n"], room: int) -> Int[Tensor, " r"]:
    """Some of the numbers, drawn without regard to any grid: each time at the same places of the whole."""
    count = min(ROWS, max(room, 8))
    if len(numbers) <= count:
        return numbers
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(0))
    return numbers[(drawn * len(numbers)).long().unique().to(numbers.device)]


def _share(flags: Tensor) -> float:
    return float(flags.float().mean()) if flags.numel() else 0.0


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
