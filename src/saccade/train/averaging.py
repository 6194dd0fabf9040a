"""Exponential moving average of the weights, kept beside the trained ones.

    average <- average + (1 - d) * (weights - average),   d = min(decay, (1 + step) / (10 + step))

The early, smaller d forgets the random start. Non-float entries are copied.
"""

import torch
from torch import Tensor, nn


def decay_at(step: int, decay: float) -> float:
    """Decay used after optimiser step `step` (0 is the first)."""
    return min(decay, (1 + step) / (10 + step))


class Average:
    """The running average of one module's state, in its own memory.

    Raises ValueError for a decay outside [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be in [0, 1); 0 keeps the newest weights only")
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update_(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights; in place."""
        weight = 1 - decay_at(step, self.decay)
        news = {name: value.detach() for name, value in module.state_dict().items()}
        floats = [name for name, value in news.items() if value.is_floating_point()]
        for name in floats:
            self.state[name].lerp_(news[name], weight)
        for name in news.keys() - set(floats):
            self.state[name].copy_(news[name])

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a stored average."""
        self.state = {name: value.clone() for name, value in state.items()}
