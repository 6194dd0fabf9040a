"""A sink made by hand: one patch of every picture loud in one channel, and given weight it does not deserve."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.biases import PerKey
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, Pairs, PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.state import Memory
from saccade.papers.visual_sink.dims import FIRST


@dataclass(frozen=True, kw_only=True)
class Surplus:
    """Scores of one key of each row are raised, in the first head not at all and in the last by `score`.

    places  the key of each row
    """

    places: tuple[int, ...]
    score: float
    where: Where = EVERYWHERE

    @property
    def name(self) -> str:
        return "surplus"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (RaisedKey(places=self.places, score=self.score),) if site.layer >= FIRST else ()


@dataclass(frozen=True, kw_only=True)
class RaisedKey(Mechanism):
    """Options as in `Surplus`."""

    places: tuple[int, ...]
    score: float

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        keys = F.one_hot(torch.tensor(self.places, device=call.q.device), call.k.shape[2]).to(call.q.dtype)
        by_head = torch.linspace(0, self.score, call.q.shape[1], dtype=call.q.dtype, device=call.q.device)
        return Pairs(bias=PerKey(keys[:, None] * by_head[:, None]))


@contextmanager
def loud_tokens(block: nn.Module, places: Int[Tensor, " b"], channel: int, times: float) -> Generator[None, None, None]:
    """While open, one token of each row enters the block with `times` its root mean square added in one channel."""

    def louder(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return (made(args[0], places, channel, times), *args[1:]), kwargs

    hook = block.register_forward_pre_hook(louder, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def made(x: Float[Tensor, "b n c"], places: Int[Tensor, " b"], channel: int, times: float) -> Float[Tensor, "b n c"]:
    """x with its tokens made loud."""
    rows = torch.arange(len(x))
    added = torch.zeros_like(x)
    added[rows, places, channel] = times * x[rows, places].square().mean(-1).sqrt()
    return x + added
