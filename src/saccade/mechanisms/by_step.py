"""Keep what every step showed: a row of memory for each, written where a tensor says, so that a graph knows no step."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.clock import Clock
from saccade.core.state import Memory


@dataclass(frozen=True, eq=False)
class StepRows:
    """`steps` rows, and the one that the coming forward writes."""

    steps: int
    now: Int[Tensor, ""] = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))

    def follow(self, clock: Clock) -> None:
        """Write this step's row from now on; between steps, outside of graphs."""
        self.now.fill_(clock.step)

    def keep(self, mem: Memory, name: str, value: Float[Tensor, "*s"]) -> None:
        """Put the rows under `name`, (steps *s), with `value` in this step's; NaN where no step wrote yet.

        A single row may change its shape from forward to forward, as that of a text does while it is written.
        """
        value, shape = value.detach(), (self.steps, *value.shape)
        if self.steps == 1:
            return mem.put(name, value[None])
        rows = mem.get(name, shape=shape) if mem.has(name) else value.new_full(shape, torch.nan)
        mem.put(name, rows.index_copy(0, self.now[None].to(value.device), value[None]))
