"""A feed-forward of many experts, of which a router chooses a few for every token; others are shared by all.

    p = softmax(x Wg),  the k most probable,  out = sum_k p_k expert_k(x) + shared(x)

Source: Shazeer et al. (2017); Fedus et al., Switch Transformers (2021); Dai et al., DeepSeekMoE (2024), shared experts.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.nn.block import xavier_
from saccade.nn.experts import Expert, ExpertKind, Experts
from saccade.nn.part import Losses, MixerOutput, TokenPositions
from saccade.nn.registry import feedforward
from saccade.nn.routing import Router, Routing, balance, choose, softmax

Mixing = Float[Tensor, "b n n"] | Callable[[Float[Tensor, "b n e"]], Float[Tensor, "b n e"]]


class TopKRouter(Router):
    """The `top` most probable of `experts`, by one linear layer and a softmax.

    norm_topk   weights of the chosen sum to one; otherwise they are their probabilities among all
    Raises ValueError for a top out of range.
    """

    def __init__(self, width: int, experts: int, *, top: int = 2, norm_topk: bool = False, bias: bool = False) -> None:
        super().__init__()
        if not 1 <= top <= experts:
            raise ValueError(f"top={top} must be between 1 and experts={experts}")
        self.top, self.norm_topk = top, norm_topk
        self.gate = nn.Linear(width, experts, bias=bias)

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
        probs = softmax(self.gate(x), self.name)
        if mixing is not None:
            probs = mixing(probs) if callable(mixing) else mixing.to(probs.dtype) @ probs
        routing = choose(probs, self.top, renormalise=self.norm_topk)
        return routing if keep is None else routing._replace(weight=routing.weight * keep[..., None])


@feedforward("moe")
class MoE(nn.Module):
    """Routed experts, and shared ones as one feed-forward.

    experts     how many; `top` of them serve a token
    shared      hidden channels of the shared feed-forward, in widths; 0: none
    hidden      channels inside each routed expert; None: four times the width
    kind        of feed-forward: swiglu, geglu, gelu, relu
    norm_topk   weights of the chosen sum to one; without it the output shrinks where the router is unsure
    balance     weight of the loss that evens out the experts' load, in training
    per_image   take that loss in every image, then the mean, and not over the whole batch
    soft        all experts serve every token
    bias        of the router
    Raises ValueError for negative options.
    """

    def __init__(
        self,
        width: int,
        *,
        experts: int = 8,
        top: int = 2,
        shared: int = 2,
        hidden: int | None = None,
        kind: ExpertKind = "swiglu",
        norm_topk: bool = False,
        balance: float = 0.01,
        per_image: bool = False,
        soft: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("balance", balance), ("shared", shared)):
            if value < 0:
                raise ValueError(f"{name}={value} must be at least 0")
        self.balance, self.per_image = balance, per_image
        self.experts = Experts(width, experts, hidden=4 * width if hidden is None else hidden, kind=kind)
        self.router = TopKRouter(width, experts, top=experts if soft else top, norm_topk=norm_topk, bias=bias)
        self.shared = Expert(width, shared * width, kind) if shared else None
        self.reset()

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
