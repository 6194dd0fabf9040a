"""What holds to rounding, on a random Wan transformer in double precision."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from saccade.attach import attach
from saccade.experiments import Row
from saccade.models.scenes_wan import ScenesWan
from saccade.papers.dit_mem.system import DiTMem
from saccade.papers.dit_mem.tokens import MemoryTokens

OFF, ORDER, EQUAL, ZEROS = (
    "no memory", "tokens in another order", "1000 tokens as 10 with log 100", "zeros instead of no memory",
)  # fmt: skip
SIZE = ScenesWan(hidden=48, head_dim=24, feed_forward=96, blocks=2, time_channels=16, text_dim=16, latent_channels=4)


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One random model and one random memory."""

    seed: int

    @cached_property
    def model(self) -> Any:
        """In double precision."""
        torch.manual_seed(self.seed)
        return SIZE.transformer().double().eval()

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Of one forward."""
        rng = torch.Generator().manual_seed(self.seed)
        latents, words = (torch.randn(*s, generator=rng).double() for s in ((1, 4, 3, 8, 8), (1, 5, 16)))
        return {
            "hidden_states": latents, "encoder_hidden_states": words, "timestep": torch.tensor([500.0]),
            "return_dict": False,
        }  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """The largest change of the output, by check."""
        rng = torch.Generator().manual_seed(self.seed)
        ten = MemoryTokens(torch.randn(1, 10, SIZE.hidden, generator=rng).double(), (100,) * 10)
        every = ten.expanded()
        order = torch.randperm(every.shape[1], generator=rng)
        plain, memory = self.out(None), self.out(every)
        yield {"check": OFF, "change": _apart(self.out(every[:, :0]), plain)}
        yield {"check": ORDER, "change": _apart(self.out(every[:, order]), memory)}
        yield {"check": EQUAL, "change": _apart(self.out(ten), memory)}
        yield {"check": ZEROS, "change": _apart(self.out(torch.zeros_like(every)), plain)}

    @torch.no_grad()
    def out(self, memory: MemoryTokens | Tensor | None) -> Tensor:
        """Of the model with a memory."""
        with attach(self.model, DiTMem(memory=memory)):
            return self.model(**self.inputs)[0]


def _apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max())
