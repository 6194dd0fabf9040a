"""Target queries see the keys of the source's object from within the object, those of its surroundings from without.

A pair of visual tokens is open where the target's mask at the query equals the source's at the key; words see all and
are seen by all. So two attentions, one over the keys of the object and one over the others, joined by the target's
mask, are one attention with a bias of two columns: 0 on open pairs, so low on the others that they weigh nothing.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.rows import Role
from saccade.core.state import Memory
from saccade.mechanisms.running_columns import running_mean

SHUT = -8192.0  # exact in every type; its exponential is 0 in all of them
EPSILON = 1e-6
MASKS = "masks"


@dataclass(frozen=True, kw_only=True)
class MatchedRegions(Mechanism):
    """Masks of this forward's running means, in force at one site.

    threshold  from which a map, stretched to [0, 1] in each frame, is the object
    again      take the masks that the conditional branch made at this site in this step, for branches run in turn
    Where no site has been watched yet in a forward, all pairs stay open.
    """

    threshold: float
    again: bool = False
    needs: ClassVar[frozenset[str]] = frozenset({"rows.target", "rows.source"})

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        assert call.rows is not None
        masks = mem.run.get(call.site.name) if self.again else self._masks(mem)
        if not self.again:
            mem.run[call.site.name] = masks
        return Pairs() if masks is None else Pairs(bias=matched(call, *masks))

    def density(self, mem: Memory) -> float:
        return 1.0

    def _masks(self, mem: Memory) -> tuple[Bool[Tensor, "s n"], Bool[Tensor, "s n"]] | None:
        source, target = (self._mask(mem, role) for role in ("source", "target"))
        return None if source is None or target is None else (source, target)

    def _mask(self, mem: Memory, role: Role) -> Bool[Tensor, "s n"] | None:
        mean = running_mean(mem, role)
        return None if mean is None else (stretched(mean) >= self.threshold).flatten(1)


def stretched(heat: Float[Tensor, "s t h w"]) -> Float[Tensor, "s t h w"]:
    """A map on [0, 1] in each frame."""
    low, high = heat.amin((-2, -1), keepdim=True), heat.amax((-2, -1), keepdim=True)
    return (heat - low) / (high - low + EPSILON)


def matched(call: AttentionCall, source: Bool[Tensor, "s n"], target: Bool[Tensor, "s n"]) -> LowRank:
    """The bias of target rows: 0 where the masks agree, `SHUT` where they differ, masks by sample.

    Where there are no words to see, a query whose side of the source is empty sees all instead of nothing.
    """
    assert call.rows is not None
    within = torch.stack((target, ~target), dim=-1)
    without = torch.stack((~source, source), dim=-1)
    if not call.layout_k.of("text"):
        without = without & ~without.all(1, keepdim=True)
    rows = call.rows.where("target")
    samples = torch.tensor([call.rows.samples[i] for i in rows], device=call.q.device)
    dtype = torch.promote_types(call.q.dtype, torch.float32)
    phi_q, phi_k = (x.new_zeros(len(call.q), 1, x.shape[2], 2, dtype=dtype) for x in (call.q, call.k))
    at = torch.tensor(rows, device=call.q.device)
    for phi, layout, chosen, scale in (
        (phi_q, call.layout_q, within, 1.0), (phi_k, call.layout_k, without, SHUT)
    ):  # fmt: skip
        phi[at, 0, layout.span(layout.image.name)] = scale * chosen[samples].to(dtype)
    return LowRank(phi_q, phi_k)
