"""Decoding that reads less of the cache: one new token of every text attends to some keys of it, the prompt to all."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.biases import DenseBias
from saccade.core.call import AttentionCall
from saccade.core.checks import check_whole
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, Pairs, PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.state import Memory
from saccade.ops.split_mask import key_padding
from saccade.papers.kinetics.sampling import Sampling
from saccade.papers.kinetics.selection import Selection


@dataclass(frozen=True, kw_only=True)
class SparseDecode:
    """A language model's next token reads only the keys that `keys` chooses; the forward of the prompt reads all.

    keys     a `Selection`, or a `Sampling` for keys drawn at random
    skip     first layers that stay dense
    where    sites
    The scores of all keys are made, so this shows what a choice does to a text, not what it saves: `PagedCache` does,
    which keeps the mean keys of its pages.
    Raises ValueError for options out of range.
    """

    keys: Selection | Sampling = field(default_factory=Selection)
    skip: int = 1
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_whole(0, skip=self.skip)
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @property
    def name(self) -> str:
        return "kinetics"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or site.layer < self.skip or not self.where.covers(site):
            return ()
        return (NewestToken(keys=self.keys),)


@dataclass(frozen=True, kw_only=True)
class NewestToken(Mechanism):
    """Leaves a call of several queries as it is."""

    keys: Selection | Sampling

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        if call.q.shape[2] != 1:
            return Pairs()
        heads = call.k.shape[1]
        lengths, order = _places(call)
        grouped = call.q[:, :, 0].unflatten(1, (heads, -1)) * call.scale
        scores = (grouped @ call.k.mT).flatten(1, 2)
        index = order[:, None].expand_as(scores)
        scores = scores.gather(2, index)
        if isinstance(self.keys, Sampling):
            shifts = self.keys.shifts(scores, lengths)
        else:
            kept = self.keys.kept(scores, lengths, heads)
            shifts = torch.zeros(kept.shape, dtype=torch.float32, device=kept.device).masked_fill(~kept, -torch.inf)
        back = torch.empty_like(shifts).scatter(2, index, shifts)
        return Pairs(bias=DenseBias(back[:, :, None].to(call.q.dtype)))


def _places(call: AttentionCall) -> tuple[Int[Tensor, " b"], Int[Tensor, "b m"]]:
    """How many keys each row has, and their order from the first on: padding stands on the left, and goes last."""
    m, rows = call.k.shape[2], call.q.shape[0]
    places = torch.arange(m, device=call.q.device).expand(rows, m)
    keep = key_padding(call.mask, m)
    if keep is None:
        return torch.full((rows,), m, device=call.q.device), places
    lengths = keep.sum(1).expand(rows)
    return lengths, (places + (m - lengths)[:, None]) % m
