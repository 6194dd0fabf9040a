"""Keys of the middle drawn at random, and what their scores must gain so that they stand for all of it."""

from dataclasses import dataclass
from math import log
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.checks import check_whole, check_word
from saccade.papers.kinetics.selection import Lengths, Scores

By = Literal["uniform", "oracle"]
Compat = Literal["official"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """`draws` keys of the middle, with replacement; the newest `local` and the first `sink` are always kept.

    by       uniform: each key of the middle alike, a draw standing for (keys of the middle / draws) of its kind;
             oracle: by the attention they get, each draw standing for an equal share of what the middle gets
    compat   "official": a key drawn several times counts once, so the middle is underrated
    Raises ValueError for options out of range.
    """

    by: By = "uniform"
    draws: int = 1024
    local: int = 0
    sink: int = 4
    compat: Compat | None = None

    def __post_init__(self) -> None:
        check_word(get_args(By), by=self.by)
        check_whole(1, draws=self.draws)
        check_whole(0, local=self.local, sink=self.sink)

    @property
    def budget(self) -> int:
        """Keys kept at most."""
        return self.sink + self.local + self.draws

    def shifts(
        self, scores: Scores, lengths: Lengths, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b h m"]:
        """What is added to the scores of each head: 0 where kept as they are, -inf where left out.

        Scores as the softmax takes them.
        """
        places = torch.arange(scores.shape[2], device=scores.device)
        there = (places < lengths[:, None])[:, None]
        newest = (places >= (lengths - self.local)[:, None])[:, None]
        middle = (there & ~newest & (places >= self.sink)).expand_as(scores)
        found = self._drawn(scores.float(), middle, generator)
        found = torch.where(middle, found, torch.where(there, 0.0, -torch.inf))
        whole = (lengths <= self.budget)[:, None, None] & there
        return torch.where(whole, 0.0, found)

    def _drawn(self, scores: Tensor, middle: Tensor, generator: torch.Generator | None) -> Tensor:
        inside = scores.masked_fill(~middle, -torch.inf)
        empty = ~middle.any(-1, keepdim=True)
        chances = middle.float() if self.by == "uniform" else inside.softmax(-1)
        chances = torch.where(empty, torch.ones_like(chances), chances)
        drawn = torch.multinomial(chances.flatten(0, 1), self.draws, replacement=True, generator=generator)
        counts = (
            torch.zeros_like(scores).flatten(0, 1).scatter_add(1, drawn, torch.ones_like(drawn, dtype=scores.dtype))
        )
        counts = counts.view_as(scores)
        times = (counts > 0).to(scores.dtype) if self.compat == "official" else counts
        if self.by == "uniform":
            return times.log() + middle.sum(-1, keepdim=True).log() - log(self.draws)
        return times.log() + inside.logsumexp(-1, keepdim=True) - log(self.draws) - scores
