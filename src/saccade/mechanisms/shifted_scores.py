"""Add numbers to a call's scores before the softmax, and keep what the scores were and which of them count."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import DenseBias
from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.state import Memory


class Scores(NamedTuple):
    """Of one site: before softmax and mask, without gradient; and which pairs the call's mask leaves open."""

    values: Float[Tensor, "b h n m"]
    keep: Bool[Tensor, "b h n m"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftedScores(Mechanism):
    """scale q k^T + bias + `shift`, with the gradient to `shift`; None adds nothing.

    into   where the scores are kept, under the site's name; None keeps none. Cost: b h n m numbers, and q k^T once more
    """

    shift: Float[Tensor, "b h n m"] | None = None
    into: dict[str, Scores] | None = None

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        if self.into is not None:
            self.into[call.site.name] = scores_of(call)
        return Pairs() if self.shift is None else Pairs(bias=DenseBias(self.shift))

    def density(self, mem: Memory) -> float:
        return 1.0


@torch.no_grad()
def scores_of(call: AttentionCall) -> Scores:
    """scale q k^T + bias of all pairs, in single precision at least."""
    fine = torch.promote_types(call.q.dtype, torch.float32)
    groups = call.q.shape[1] // call.k.shape[1]
    k = call.k if groups == 1 else call.k.repeat_interleave(groups, dim=1)
    values = call.q.to(fine) @ k.to(fine).mT * call.scale
    if call.bias is not None:
        values = values + call.bias.materialize(*values.shape[2:])
    if call.mask is None:
        return Scores(values, torch.ones_like(values, dtype=torch.bool))
    keep = call.mask.materialize(call.layout_q, call.layout_k, values.device)
    return Scores(values, keep.expand_as(values))
