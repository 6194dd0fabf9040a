"""Routing over a graph of tokens: a token's expert distribution is a mean of those of tokens like it.

    p_i = sum_j S_ij e_j, then the k most probable        e_j: what the router says of token j alone

    similarity   S_ij = softmax_j(u_i^T W u_j / tau)
    attention    S_ij prop. to A_h(i, j) exp(-|o_i - v_j|^2 / (2 sigma^2)), by one head h of the block's own attention

See `saccade.papers.graph_moe` for sources.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.nn.moe import MoE
from saccade.nn.part import AttentionTrace, TokenPositions
from saccade.nn.registry import feedforward
from saccade.nn.routing import Routing

Posterior = Literal["gaussian", "attention"]
Space = Literal["head", "model"]
Weights = Float[Tensor, "b n n"]


@feedforward("similar_moe")
class SimilarityMoE(MoE):
    """Experts, routed by the tokens that resemble a token; the options of "moe", and

    tau        temperature of the similarity; near 0 every token looks at itself alone
    rank       of W = Wq^T Wk; None: W itself, which begins as the identity over the root of the width
    restrict   a token looks only at tokens that are at least as certain as itself
    Raises ValueError for a tau or a rank that is not positive.
    """

    def __init__(
        self, width: int, *, tau: float = 1.0, rank: int | None = None, restrict: bool = False, **options: Any
    ) -> None:
        super().__init__(width, **{"norm_topk": True, "shared": 0, **options})
        if tau <= 0 or (rank is not None and rank < 1):
            raise ValueError(f"tau={tau} and rank={rank} must be above 0; rank=None keeps W whole")
        self.tau, self.restrict = tau, restrict
        self.similarity = Similarity(width, rank)

    def route(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Routing:
        seen = visible(place, x.shape[1], x.device)
        weights = masked_softmax(self.similarity(x) / self.tau, seen)
        return self.router(x, mixing=Mean(weights, self.restrict), keep=place.keep)


class Similarity(nn.Module):
    """u_i^T W u_j, in single precision at least."""

    def __init__(self, width: int, rank: int | None = None) -> None:
        super().__init__()
        self.q = nn.Linear(width, rank or width, bias=False)
        self.k = nn.Linear(width, rank, bias=False) if rank else nn.Identity()
        self.reset()

    def reset(self) -> None:
        """Near the identity over the root of the width: a token resembles itself most."""
        width = self.q.in_features
        nn.init.eye_(self.q.weight)
        self.q.weight.data.mul_(width**-0.5)
        if isinstance(self.k, nn.Linear):
            nn.init.eye_(self.k.weight)

    def forward(self, x: Float[Tensor, "b n d"]) -> Weights:
        q, k = self.q(x), self.k(x)
        fine = torch.promote_types(x.dtype, torch.float32)
        return q.to(fine) @ k.to(fine).mT


@feedforward("attention_moe")
class AttentionMoE(MoE):
    """Experts, routed by the tokens that the block's own attention read; the options of "moe", and

    posterior   "gaussian" weighs by how near a value lies to the output; "attention" takes the map as it is
    sigma       of the Gaussian; large: the map as it is
    space       outputs and values are compared in each "head", or where the heads' outputs are joined, in the "model"
    heads       "min_entropy": the head that is surest over the batch; "mean" of all; or one by its number
    per_sample  the surest head of every sample instead
    restrict    a token looks only at tokens that are at least as certain as itself

    The mixer must hand over what it saw: `attention(return_trace=True)`.
    Raises ValueError for a sigma that is not positive.
    """

    def __init__(
        self,
        width: int,
        *,
        posterior: Posterior = "gaussian",
        sigma: float = 1.0,
        space: Space = "head",
        heads: Literal["min_entropy", "mean"] | int = "min_entropy",
        per_sample: bool = False,
        restrict: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(width, **{"norm_topk": True, "shared": 0, **options})
        if sigma <= 0:
            raise ValueError(f"sigma={sigma} must be above 0")
        check_word(("gaussian", "attention"), posterior=posterior)
        check_word(("head", "model"), space=space)
        if not isinstance(heads, int):
            check_word(("min_entropy", "mean"), heads=heads)
        self.sigma = sigma if posterior == "gaussian" else None
        self.space: Space = space
        self.heads, self.per_sample, self.restrict = heads, per_sample, restrict

    def route(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Routing:
        weights = self.graph(seen_of(place, x), place)
        return self.router(x, mixing=Mean(weights, self.restrict), keep=place.keep)

    def graph(self, seen: AttentionTrace, place: TokenPositions) -> Weights:
        """S, from what the mixer saw.

        Raises ValueError for a head there is not.
        """
        every = posterior(seen, visible(place, seen.q.shape[2], seen.q.device), self.sigma, self.space)
        if self.heads == "mean":
            return every.mean(1)
        if isinstance(self.heads, int):
            if not 0 <= self.heads < every.shape[1]:
                raise ValueError(f"heads={self.heads} is no head of the {every.shape[1]} that the mixer has")
            return every[:, self.heads]
        return every[torch.arange(len(every)), self.surest(every, place)]

    def surest(self, every: Float[Tensor, "b h n n"], place: TokenPositions) -> Tensor:
        """The head of least mean entropy: one for the batch, as many times as it has rows, or each sample's own."""
        spread = entropy(every)
        if place.keep is not None:
            spread = spread * place.keep[:, None]
        by_head = spread.sum(-1) if self.per_sample else spread.sum((0, 2))[None]
        return by_head.argmin(-1).expand(len(every))


class Mean:
    """p = S e over tokens; with `restrict` only tokens at most as uncertain, entropy for entropy, keep their weight."""

    def __init__(self, weights: Weights, restrict: bool = False) -> None:
        self.weights, self.restrict = weights, restrict

    def __call__(self, probs: Float[Tensor, "b n e"]) -> Float[Tensor, "b n e"]:
        weights = self.weights.to(probs.dtype)
        if self.restrict:
            spread = entropy(probs)
            weights = weights * (spread[:, None, :] <= spread[:, :, None])
            weights = weights / weights.sum(-1, keepdim=True)
        return weights @ probs


def posterior(
    seen: AttentionTrace, allowed: Bool[Tensor, "#b n n"] | None, sigma: float | None, space: Space = "head"
) -> Float[Tensor, "b h n n"]:
    """A_h(i, j) times a Gaussian of o_i - v_j, rows summing to one; A_h itself for `sigma=None`."""
    fine = torch.promote_types(seen.q.dtype, torch.float32)
    scores = seen.q.to(fine) @ seen.k.to(fine).mT * seen.q.shape[-1] ** -0.5
    if sigma is not None:
        scores = scores + nearness(seen, space).to(fine) / sigma**2
    return masked_softmax(scores, None if allowed is None else allowed[:, None])


def nearness(seen: AttentionTrace, space: Space) -> Float[Tensor, "b h n n"]:
    """-|o_i - v_j|^2 / 2 without |o_i|^2, which is the same for all j.

    In the model's space a value is what its head alone would add to the joined output.
    Raises ValueError where the trace has no projection.
    """
    out, v = seen.out, seen.v
    if space == "head":
        return out @ v.mT - v.square().sum(-1)[..., None, :] / 2
    if seen.projection is None:
        raise ValueError("space='model' needs the projection that joins the heads; this mixer has none, take 'head'")
    by_head = seen.projection.weight.unflatten(1, (v.shape[1], -1)).transpose(0, 1)  # h d e
    joined = seen.projection(out.transpose(1, 2).flatten(2))
    placed = torch.einsum("hde,bhne->bhnd", by_head, v)
    return joined[:, None] @ placed.mT - placed.square().sum(-1)[..., None, :] / 2


def visible(place: TokenPositions, tokens: int, device: torch.device) -> Bool[Tensor, "#b n n"] | None:
    """Which tokens a token may look at: those that are there, and itself; in a causal sequence none after it.

    Raises ValueError for packed sequences.
    """
    if place.lengths is not None:
        raise ValueError("a graph of tokens is made for rows, not for packed sequences; give one sequence a row")
    if place.keep is None and not place.causal:
        return None
    allowed = torch.ones(1, tokens, tokens, dtype=torch.bool, device=device)
    allowed = allowed.tril() if place.causal else allowed
    if place.keep is not None:
        allowed = (allowed & place.keep[:, None]) | torch.eye(tokens, dtype=torch.bool, device=device)
    return allowed


def masked_softmax(scores: Float[Tensor, "*b n n"], allowed: Bool[Tensor, "*#b n n"] | None) -> Float[Tensor, "*b n n"]:
    """Softmax over what is allowed."""
    return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(-1)


def entropy(probs: Float[Tensor, "*n e"]) -> Float[Tensor, "*n"]:
    """In nats; 0 log 0 is 0."""
    return torch.special.entr(probs).sum(-1)


def seen_of(place: TokenPositions, x: Float[Tensor, "b n d"]) -> AttentionTrace:
    """What the mixer handed over.

    Raises ValueError where it handed over nothing, or other tokens than these.
    """
    if place.seen is None:
        raise ValueError(
            "attention_moe reads the attention of its block, and fused kernels keep none; "
            "give the block a mixer that returns its trace, attention(return_trace=True)"
        )
    if place.seen.q.shape[2] != x.shape[1] or place.seen.k.shape[2] != x.shape[1]:
        shape = (place.seen.q.shape[2], place.seen.k.shape[2])
        raise ValueError(f"attention over (queries, keys)={shape} is no self-attention of these {x.shape[1]} tokens")
    return place.seen
