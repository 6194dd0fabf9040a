"""A feed-forward of many experts, of which a router chooses a few for every token; others are shared by all.

    p = softmax(x Wg),  the k most probable,  out = sum_k p_k expert_k(x) + shared(x)

The load is evened out by a loss, or without one by an offset b of each expert in the choice, which no weight knows of:
after every step of the optimiser b_e rises by a rate where expert e served fewer tokens than the mean, or falls by it.

Source: Shazeer et al. (2017); Fedus et al., Switch Transformers (2021); Dai et al., DeepSeekMoE (2024), shared experts;
Wang et al., Auxiliary-loss-free load balancing (2024).
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn

from saccade.nn.block import xavier_
from saccade.nn.experts import Expert, ExpertKind, Experts
from saccade.nn.part import Losses, MixerOutput, TokenPositions
from saccade.nn.registry import feedforward
from saccade.nn.routing import Router, Routing, balance, choose, sigmoid, softmax

Scores = Literal["softmax", "sigmoid"]
Mixing = Float[Tensor, "b n n"] | Callable[[Float[Tensor, "b n e"]], Float[Tensor, "b n e"]]


class TopKRouter(Router):
    """The `top` most probable of `experts`, by one linear layer and a softmax.

    norm_topk   weights of the chosen sum to one; otherwise they are their probabilities among all
    scores      "softmax", or "sigmoid" for each expert by itself
    offset_rate   by how much `balance_offsets_` moves the offsets in the choice; 0: there are none
    Raises ValueError for options out of range.
    """

    offset: Tensor | None  # added in the choice
    load: Tensor | None  # choices since the offsets were last moved

    def __init__(
        self,
        width: int,
        experts: int,
        *,
        top: int = 2,
        norm_topk: bool = False,
        bias: bool = False,
        scores: Scores = "softmax",
        offset_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= top <= experts:
            raise ValueError(f"top={top} must be between 1 and experts={experts}")
        if scores not in get_args(Scores):
            raise ValueError(f"scores='{scores}' must be one of {', '.join(get_args(Scores))}")
        if offset_rate < 0:
            raise ValueError(f"offset_rate={offset_rate} must be at least 0")
        self.top, self.norm_topk, self.scores, self.offset_rate = top, norm_topk, scores, offset_rate
        self.gate = nn.Linear(width, experts, bias=bias)
        self.register_buffer("offset", torch.zeros(experts) if offset_rate else None)
        self.register_buffer("load", torch.zeros(experts, dtype=torch.long) if offset_rate else None)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        *,
        mixing: Mixing | None = None,
        keep: Bool[Tensor, "b n"] | None = None,
    ) -> Routing:
        """Choices for every token; weight 0 where `keep` is false.

        `mixing` acts on the probabilities before the choice: a matrix over tokens, p = S e, or any function.
        """
        probs = (softmax if self.scores == "softmax" else sigmoid)(self.gate(x), self.name)
        if mixing is not None:
            probs = mixing(probs) if callable(mixing) else mixing.to(probs.dtype) @ probs
        routing = choose(probs, self.top, renormalise=self.norm_topk, offset=self.offset)
        if self.training and self.load is not None:
            self.load += _counts(routing, keep)
        return routing if keep is None else routing._replace(weight=routing.weight * keep[..., None])

    @torch.no_grad()
    def balance_offset_(self) -> None:
        """Move the offsets by the load since the last time, of all processes together."""
        if self.offset is None or self.load is None:
            return
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self.load)
        load = self.load.to(self.offset.dtype)
        self.offset += self.offset_rate * (load.mean() - load).sign()
        self.load.zero_()


def balance_offsets_(model: nn.Module) -> None:
    """After a step of an optimiser: move the offsets of every router that has some; the trainer's optimisers do."""
    for module in model.modules():
        if isinstance(module, TopKRouter):
            module.balance_offset_()


def _counts(routing: Routing, keep: Tensor | None) -> Tensor:
    """Choices of every expert. Counting again in a checkpointed backward doubles all of them and changes no sign."""
    there = routing.index.new_ones(routing.index.shape)
    there = there if keep is None else there * keep[..., None]
    none = there.new_zeros(routing.probs.shape[-1])
    return none.scatter_add(0, routing.index.flatten(), there.flatten())


@feedforward("moe")
class MoE(nn.Module):
    """Routed experts, and shared ones as one feed-forward.

    experts     how many; `top` of them serve a token
    shared      hidden channels of the shared feed-forward, in widths, whole or not; 0: none
    hidden      channels inside each routed expert; None: four times the width
    kind        of feed-forward: swiglu, geglu, gelu, relu
    norm_topk   weights of the chosen sum to one; without it the output shrinks where the router is unsure
    balance     weight of the loss that evens out the experts' load, in training
    per_image   take that loss in every image, then the mean, and not over the whole batch
    soft        all experts serve every token
    bias        of the router
    scores, offset_rate   as in `TopKRouter`: balance without a loss
    Raises ValueError for negative options.
    """

    def __init__(
        self,
        width: int,
        *,
        experts: int = 8,
        top: int = 2,
        shared: float = 2,
        hidden: int | None = None,
        kind: ExpertKind = "swiglu",
        norm_topk: bool = False,
        balance: float = 0.01,
        per_image: bool = False,
        soft: bool = False,
        bias: bool = False,
        scores: Scores = "softmax",
        offset_rate: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("balance", balance), ("shared", shared)):
            if value < 0:
                raise ValueError(f"{name}={value} must be at least 0")
        self.balance, self.per_image = balance, per_image
        self.experts = Experts(width, experts, hidden=4 * width if hidden is None else hidden, kind=kind)
        options: dict[str, Any] = {"norm_topk": norm_topk, "scores": scores, "offset_rate": offset_rate}
        self.router = TopKRouter(width, experts, top=experts if soft else top, bias=bias, **options)
        self.shared = Expert(width, round(shared * width), kind) if shared else None
        self.reset()

    @property
    def idle(self) -> int:
        """How many weights of the routed experts do nothing for a token."""
        each = sum(weight.numel() for weight in self.experts.parameters()) // self.experts.count
        return each * (self.experts.count - self.router.top)

    def reset(self) -> None:
        """Xavier-uniform experts, and a router that starts as any linear layer does."""
        self.experts.reset()
        if self.shared is not None:
            xavier_(self.shared)
        self.router.gate.reset_parameters()

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        routing = self.route(x, place)
        out = self._routed(x, routing, place.keep)
        return MixerOutput(out if self.shared is None else out + self.shared(x), self._losses(routing, place.keep))

    def route(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Routing:
        """Who serves whom: the one method that another way of routing overrides."""
        return self.router(x, keep=place.keep)

    def _routed(self, x: Tensor, routing: Routing, keep: Tensor | None) -> Float[Tensor, "b n d"]:
        flat, index, weight = (each.flatten(0, 1) for each in (x, routing.index, routing.weight))
        if keep is None:
            return self.experts(flat, index, weight).view(x.shape)
        there = keep.flatten()
        out = self.experts(flat[there], index[there], weight[there])
        return out.new_zeros(flat.shape).index_put((there,), out).view(x.shape)

    def _losses(self, routing: Routing, keep: Tensor | None) -> Losses:
        if not (self.training and self.balance):
            return {}
        return {"balance": self.balance * balance(routing, keep, per_row=self.per_image)}
