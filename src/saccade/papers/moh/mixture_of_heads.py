"""Self-attention whose heads are experts: shared ones, and routed ones of which every token picks a few.

    out = sum_i gate_i H_i(x) W_i + b        W_i the rows of the output projection that belong to head i

Source: Jin et al., "MoH: Multi-Head Attention as Mixture-of-Head Attention" (2024).
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.nn.attention import SelfAttention
from saccade.nn.block import xavier_
from saccade.nn.part import Losses, MixerOutput, TokenPositions
from saccade.nn.registry import mixer
from saccade.papers.moh.head_routing import Gates, HeadCounts, LearnedGates, NormGates, head_balance


@mixer("moh")
class MixtureOfHeads(SelfAttention):
    """Attention in which a token uses `shared` heads and `routed` of the others.

    head_dim    of each head; None: width / heads
    balance     weight of the loss that spreads tokens over heads, named "head_balance"; 0 for none
    routing     "learned" by routers that read the input; "norm" of the query, which needs no weights
    execution   "dense" computes all heads; "gathered" each routed head for the tokens that picked it, which saves their
                queries' share and drops the straight-through gradient of heads a token did not pick ("norm")
    qk_norm, rotary   as in "attention"; norms of normalised queries are all alike, so not with routing="norm"
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        shared: int,
        routed: int,
        head_dim: int | None = None,
        balance: float = 0.01,
        routing: Literal["learned", "norm"] = "learned",
        execution: Literal["dense", "gathered"] = "dense",
        qk_norm: bool = False,
        rotary: bool = False,
    ) -> None:
        counts = HeadCounts(heads=heads, shared=shared, routed=routed)
        _check(balance, routing, execution, qk_norm)
        super().__init__(width, heads, head_dim=head_dim, qk_norm=qk_norm, rotary=rotary)
        self.counts, self.balance, self.gathered = counts, balance, execution == "gathered"
        self.gates = NormGates(counts) if routing == "norm" else LearnedGates(width, counts)

    def reset(self) -> None:
        """Xavier-uniform, the routers too: routers of zero would send all tokens to the first heads."""
        xavier_(self)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        q, k, v = self.operands(x, place)
        gates: Gates = self.gates(x, q)
        value = gates.value.to(x.dtype)
        if self.gathered:
            return MixerOutput(self._scattered(q, k, v, value * (value != 0), place), self._losses(gates, place))
        out = self.attend(q, k, v, place).transpose(1, 2) * value[..., None]
        return MixerOutput(self.out(out.flatten(2)), self._losses(gates, place))

    def _losses(self, gates: Gates, place: TokenPositions) -> Losses:
        if gates.routing is None or not self.balance:
            return {}
        return {"head_balance": self.balance * head_balance([gates.routing], place.keep)}

    def _scattered(
        self,
        q: Float[Tensor, "b h n e"],
        k: Float[Tensor, "b h n e"],
        v: Float[Tensor, "b h n e"],
        gates: Float[Tensor, "b n h"],
        place: TokenPositions,
    ) -> Float[Tensor, "b n d"]:
        """Each head for the queries that picked it, its output added where they stand; all keys are needed."""
        out = self.out.bias.expand(*q.shape[:1], q.shape[2], -1)
        seen = allowed(place, q.shape[2], q.device)
        for head, weight in enumerate(self.out.weight.unflatten(1, (self.heads, -1)).unbind(1)):
            tokens = pickers(gates[..., head], every=head < self.counts.shared)
            mask = None if seen is None else seen.expand(len(q), -1, -1).gather(1, _along(tokens, seen.shape[-1]))
            part = F.scaled_dot_product_attention(
                q[:, head].gather(1, _along(tokens, q.shape[-1])), k[:, head], v[:, head], attn_mask=mask
            )
            part = F.linear(part, weight) * gates[..., head].gather(1, tokens)[..., None]
            out = out.scatter_add(1, _along(tokens, out.shape[-1]), part)
        return out


def pickers(gates: Float[Tensor, "b n"], *, every: bool) -> Int[Tensor, "b m"]:
    """Tokens that use a head; rows with fewer are filled up with tokens whose gate is zero."""
    if every:
        return torch.arange(gates.shape[1], device=gates.device).expand(len(gates), -1)
    used = gates != 0
    return used.int().argsort(dim=1, descending=True, stable=True)[:, : int(used.sum(1).max())]


def allowed(place: TokenPositions, n: int, device: torch.device) -> Bool[Tensor, "#b n n"] | None:
    """Which keys each query may see; None where it sees all."""
    if place.lengths is not None:
        number = torch.arange(len(place.lengths), device=device)
        row = number.repeat_interleave(torch.tensor(place.lengths, device=device))
        seen = (row[:, None] == row)[None]
    elif place.keep is not None:
        seen = place.keep[:, None].expand(-1, n, -1)
    elif place.causal:
        seen = torch.ones(1, n, n, dtype=torch.bool, device=device)
    else:
        return None
    return seen.tril() if place.causal else seen


def _along(tokens: Int[Tensor, "b m"], channels: int) -> Int[Tensor, "b m c"]:
    return tokens[..., None].expand(-1, -1, channels)


def _check(balance: float, routing: str, execution: str, qk_norm: bool) -> None:
    if balance < 0:
        raise ValueError(f"balance={balance} must not be negative; 0 leaves the loss out")
    if routing not in ("learned", "norm"):
        raise ValueError(f"routing='{routing}' must be 'learned' or 'norm'")
    if execution not in ("dense", "gathered"):
        raise ValueError(f"execution='{execution}' must be 'dense' or 'gathered'")
    if routing == "norm" and qk_norm:
        raise ValueError("routing='norm' reads the lengths of q, which qk_norm=True makes alike; choose one of them")
