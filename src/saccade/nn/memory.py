"""What a mixer keeps of the tokens before, while a text is written token by token."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(eq=False)
class Memory:
    """One mixer's; the mixer decides what it holds: keys and values of every token, latents, or a state of fixed size.

    `tokens`: how many came before; the model counts on after its forward.
    """

    tokens: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)

    def append(self, name: str, new: Tensor, dim: int = -2) -> Tensor:
        """All that is kept under `name`, the new tokens along `dim` behind the old."""
        if name in self.kept:
            new = torch.cat((self.kept[name], new), dim=dim)
        self.kept[name] = new
        return new

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return sum(each.numel() * each.element_size() for each in self.kept.values())


def check_remembers(mixers: Iterable[nn.Module]) -> None:
    """Raise ValueError for a mixer that heeds no `place.memory`; those that do say `remembers = True`."""
    for each in mixers:
        if not getattr(each, "remembers", False):
            raise ValueError(f"{type(each).__name__} keeps no memory of earlier tokens; give no memories")
