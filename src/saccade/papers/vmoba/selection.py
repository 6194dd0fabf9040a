"""Which pairs of a query and a chunk of keys are kept: the strongest gates, by a share of their sum or by number.

    b_c = mean of the keys of chunk c,    g[c, s] = b_c . q_s,    raw, in float32
    threshold    n = (g - min g) / (max g - min g): the fewest pairs whose n sum to a share tau of all
    topk         own pairs and the best others, k for each query on average

min and max, the sum and the order are taken over the pairs that compete, which `scope` names. Samples never compete.
The range max - min drops out of the shares. Ties go to the earlier chunk, then query.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.papers.vmoba.fewest import fewest_reaching, first_places
from saccade.papers.vmoba.partition import Chunks

Select = Literal["threshold", "topk"]
Scope = Literal["head_global", "query_head", "block", "overall"]
COMPETING: dict[Scope, tuple[tuple[int, ...], int]] = {  # order of (b h c s), and the first of those that compete
    "head_global": ((0, 1, 2, 3), 2),
    "query_head": ((0, 1, 3, 2), 3),
    "block": ((0, 2, 1, 3), 2),
    "overall": ((0, 2, 1, 3), 1),
}


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """tau: share of the summed gates; forced_own: own pairs are kept and count towards it, and one more at least."""

    tau: float
    scope: Scope = "head_global"
    forced_own: bool = True


@dataclass(frozen=True, kw_only=True)
class TopK:
    """k: chunks for each query, its own among them, on average over those that compete."""

    k: int
    scope: Scope = "query_head"


def mean_keys(
    k: Float[Tensor, "b hk m d"], parts: Chunks, keep: Bool[Tensor, "#b m"] | None = None
) -> Float[Tensor, "b hk c d"]:
    """The mean key of each chunk, in float32 at least; padded keys count for none."""
    fine = torch.promote_types(k.dtype, torch.float32)
    weight = k.new_ones(1, 1, k.shape[2], 1, dtype=fine) if keep is None else keep[:, None, :, None].to(fine)
    sums, counts = (_summed(x, parts) for x in (k.to(fine) * weight, weight))
    return sums / counts.clamp(min=1)


def _summed(x: Tensor, parts: Chunks) -> Tensor:
    return x.new_zeros(*x.shape[:2], len(parts.sizes), x.shape[3]).index_add(2, parts.label, x)


def gates(q: Float[Tensor, "b h s d"], means: Float[Tensor, "b hk c d"]) -> Float[Tensor, "b h c s"]:
    """Products of every query with every chunk's mean key."""
    return means.repeat_interleave(q.shape[1] // means.shape[1], dim=1) @ q.to(means.dtype).mT


def choose_pairs(
    gate: Float[Tensor, "b h c s"], own: Bool[Tensor, "c s"], rule: Threshold | TopK
) -> Bool[Tensor, "b h c s"]:
    """The pairs kept, own pairs among them unless the rule is not to force them.

    Raises ValueError for gates that are not finite.
    """
    if not torch.compiler.is_compiling() and not torch.stack(gate.aminmax()).isfinite().all():
        raise ValueError("gates hold NaN or infinity, which has no rank; the host's queries or keys are not finite")
    if gate.shape[2] == 1 or (isinstance(rule, Threshold) and rule.tau == 1):
        return torch.ones_like(gate, dtype=torch.bool)
    order, start = COMPETING[rule.scope]
    turned = gate.permute(order)
    flat, mine = (x.permute(order).flatten(start) for x in (gate, own.expand_as(gate)))
    kept = _by_sum(flat, mine, rule) if isinstance(rule, Threshold) else _by_number(flat, mine, rule.k, len(own))
    back = [order.index(axis) for axis in range(4)]
    return kept.view(turned.shape).permute(back)


def _by_sum(gate: Float[Tensor, "*g p"], own: Bool[Tensor, "*g p"], rule: Threshold) -> Bool[Tensor, "*g p"]:
    weight = gate - gate.amin(-1, keepdim=True)
    weight = weight + (weight.sum(-1, keepdim=True) == 0)
    share = weight / weight.sum(-1, keepdim=True)
    if not rule.forced_own:
        return fewest_reaching(share, share.new_tensor(rule.tau).expand_as(share[..., :1]))
    needed = (rule.tau - (share * own).sum(-1, keepdim=True)).clamp(min=0)
    return own | fewest_reaching(share.masked_fill(own, -1), needed)


def _by_number(gate: Float[Tensor, "*g p"], own: Bool[Tensor, "*g p"], k: int, count: int) -> Bool[Tensor, "*g p"]:
    """Own pairs, and (k - 1) of every (count - 1) others."""
    mine = own.sum(-1, keepdim=True)
    others = (gate.shape[-1] - mine) * (min(k, count) - 1) // (count - 1)
    place = gate.masked_fill(own, torch.inf).argsort(dim=-1, descending=True, stable=True)
    return first_places(place, mine + others)
