"""Experts chosen by a mean over tokens that nobody learns: what routing by a graph of tokens is held against."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.nn.moe import MoE
from saccade.nn.part import TokenPositions
from saccade.nn.registry import feedforward
from saccade.nn.routing import Routing
from saccade.papers.graph_moe.token_graph import Mean, masked_softmax, visible

WINDOW = 4


@feedforward("control_moe")
class ControlMoE(MoE):
    """A mixture of experts whose router reads a fixed mean.

    mean   of a "window": the token and the three before it, alike; or "random": of any tokens, by weights sampled
           anew at each call
    """

    def __init__(self, width: int, *, mean: Literal["window", "random"], **options: Any) -> None:
        super().__init__(width, **{"norm_topk": True, "shared": 0, **options})
        self.mean = mean

    def route(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Routing:
        mixing = Mean(masked_softmax(self.scores(x), visible(place, x.shape[1], x.device)))
        return self.router(x, mixing=mixing, keep=place.keep)

    def scores(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
        """Of every pair, -inf for one that does not count."""
        rows, tokens, _ = x.shape
        if self.mean == "random":
            return 2 * torch.randn(rows, tokens, tokens, device=x.device)
        back = torch.arange(tokens, device=x.device)[:, None] - torch.arange(tokens, device=x.device)
        return x.new_zeros(rows, tokens, tokens).masked_fill((back < 0) | (back >= WINDOW), -torch.inf)
