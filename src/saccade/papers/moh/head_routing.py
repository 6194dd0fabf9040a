"""Which heads a token uses, and how much it takes of each.

Of h heads the first `shared` are every token's, and it picks `routed` of the other E:

    p = softmax(x Wr),  g_i = routed p_i / sum of p over its picks,  s = shared softmax(x Ws),  a = 2 softmax(x Wh)

The gates are (a_0 s, a_1 g). By norm there are no weights: the picks are the candidates with the longest queries, each
gate is 1, and the gradient is that of p = softmax(norm / standard deviation of the token's norms).

Source: Jin et al., "MoH: Multi-Head Attention as Mixture-of-Head Attention" (2024).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.nn.routing import Router, Routing, balance, choose, softmax, straight_through
from saccade.nn.steering import steers


@dataclass(frozen=True, kw_only=True)
class HeadCounts:
    """Heads of a layer, those that all tokens share, and those a token picks of the rest.

    Raises ValueError for options out of range.
    """

    heads: int
    shared: int
    routed: int

    def __post_init__(self) -> None:
        counts = f"shared={self.shared} and routed={self.routed} of heads={self.heads}"
        if self.shared < 0 or self.routed < 0 or not self.active:
            raise ValueError(f"{counts} must not be negative, and at least one head must be active")
        if self.active > self.heads:
            raise ValueError(f"{counts} are more than there are; at most {self.candidates} can be routed")
        if not self.routed and self.shared < self.heads:
            raise ValueError(f"{counts} leave {self.candidates} heads to nobody; give routed too, or fewer heads")
        if self.heads == 1:
            raise ValueError(f"{counts} leave nothing to weigh; a single head is plain attention")

    @property
    def candidates(self) -> int:
        """Heads to pick from."""
        return self.heads - self.shared

    @property
    def active(self) -> int:
        """Heads of a token."""
        return self.shared + self.routed


class Gates(NamedTuple):
    """What a token takes of every head, 0 of those it dropped; and the choice, None where there is none to make."""

    value: Float[Tensor, "b n h"]
    routing: Routing | None


class HeadRouter(Router):
    """Picks `k` of the candidates by one linear layer; weights have mean one."""

    def __init__(self, width: int, candidates: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.linear = nn.Linear(width, candidates, bias=False)

    def forward(self, x: Float[Tensor, "b n d"]) -> Routing:
        logits = self.linear(x)
        picked = choose(softmax(logits, "heads"), self.k)
        return picked._replace(weight=even(logits.gather(-1, picked.index)))


class NormRouter(Router):
    """Picks the `k` candidates whose queries are longest; every weight is one."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, q: Float[Tensor, "b h n e"]) -> Routing:
        picked = choose(softmax(standard(lengths(q)), "heads by norm"), self.k)
        return picked._replace(weight=torch.ones_like(picked.weight))


class LearnedGates(nn.Module):
    """Gates by routers that read a layer's input."""

    def __init__(self, width: int, counts: HeadCounts) -> None:
        super().__init__()
        self.counts = counts
        self.router: Router | None = HeadRouter(width, counts.candidates, counts.routed) if counts.routed else None
        self.shared_router = steers(nn.Linear(width, counts.shared, bias=False)) if counts.shared > 1 else None
        self.side_router = steers(nn.Linear(width, 2, bias=False)) if counts.shared and counts.routed else None

    def forward(self, x: Float[Tensor, "b n d"], q: Float[Tensor, "b h n e"]) -> Gates:
        check_heads(q, self.counts)
        routing = None if self.router is None else self.router(x)
        shared, routed = self._shared(x), scattered(routing, self.counts.candidates, x)
        if self.side_router is not None:
            side = even(self.side_router(x))
            shared, routed = side[..., :1] * shared, side[..., 1:] * routed
        return Gates(torch.cat((shared, routed), dim=-1), routing)

    def _shared(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n s"]:
        if self.shared_router is None:
            return x.new_ones(*x.shape[:2], self.counts.shared)
        return even(self.shared_router(x))


class NormGates(nn.Module):
    """Gates of one and zero by the norms of queries, with the gradient of their probabilities; nothing learned."""

    def __init__(self, counts: HeadCounts) -> None:
        super().__init__()
        self.counts = counts
        self.router = NormRouter(counts.routed) if counts.routed else None

    def forward(self, x: Float[Tensor, "b n d"] | None, q: Float[Tensor, "b h n e"]) -> Gates:
        check_heads(q, self.counts)
        shared = torch.ones_like(lengths(q[:, : self.counts.shared]))
        if self.router is None:
            return Gates(shared, None)
        routing = self.router(q[:, self.counts.shared :])
        routed = straight_through(scattered(routing, self.counts.candidates, q), routing.probs)
        return Gates(torch.cat((shared, routed), dim=-1), routing)


def head_balance(routings: Iterable[Routing], keep: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, ""]:
    """Mean over layers of E sum_i me_i ce_i: k where picks are even, E where one head takes all.

    me: mean probability; ce: share of tokens that picked it, without gradient. keep: tokens that count.
    """
    return torch.stack([each.index.shape[-1] * balance(each, keep) for each in routings]).mean()


def even(logits: Float[Tensor, "*n e"]) -> Float[Tensor, "*n e"]:
    """e softmax(logits), in single precision at least: mean one, and exactly one where all logits are equal."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    power = (logits - logits.amax(-1, keepdim=True)).exp()
    return logits.shape[-1] * power / power.sum(-1, keepdim=True)


def lengths(q: Float[Tensor, "b h n e"]) -> Float[Tensor, "b n h"]:
    """Norms of queries, token by token; a rotation leaves them alone."""
    return q.to(torch.promote_types(q.dtype, torch.float32)).norm(dim=-1).mT


def standard(norms: Float[Tensor, "*n e"]) -> Float[Tensor, "*n e"]:
    """Norms over their standard deviation, less what softmax does not see; zeros where they are all alike."""
    if norms.shape[-1] == 1:
        return torch.zeros_like(norms)
    apart = norms - norms.mean(-1, keepdim=True)
    return apart / apart.std(-1, keepdim=True).clamp(min=torch.finfo(norms.dtype).eps)


def scattered(routing: Routing | None, candidates: int, like: Tensor) -> Float[Tensor, "b n e"]:
    """The weights at the candidates they belong to, zero at the others."""
    if routing is None:
        return like.new_zeros(*like.shape[:2], candidates)
    empty = routing.weight.new_zeros(*routing.weight.shape[:-1], candidates)
    return empty.scatter(-1, routing.index, routing.weight)


def check_heads(q: Float[Tensor, "b h n e"], counts: HeadCounts) -> None:
    """Raise ValueError where a call has another number of heads than the gates."""
    if q.shape[1] != counts.heads:
        raise ValueError(
            f"gates for heads={counts.heads} got a call of {q.shape[1]} heads; give all heads of the layer"
        )
