"""Dense feed-forwards, and none."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.registry import feedforward


@feedforward("mlp")
class Mlp(nn.Module):
    """Two layers with a GELU between, `ratio` times as wide inside; `tanh`: its approximation, as in DiT."""

    def __init__(self, width: int, *, ratio: float = 4.0, tanh: bool = True) -> None:
        super().__init__()
        self.approximate = "tanh" if tanh else "none"
        self.up, self.down = nn.Linear(width, int(ratio * width)), nn.Linear(int(ratio * width), width)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        return MixerOutput(self.down(F.gelu(self.up(x), approximate=self.approximate)), {})


@feedforward("swiglu")
class SwiGlu(nn.Module):
    """down(silu(gate x) * up x), `hidden` channels inside (None: four times the width); no biases."""

    def __init__(self, width: int, *, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        return MixerOutput(self.down(F.silu(self.gate(x)) * self.up(x)), {})


@feedforward("none")
class NoFeedForward(nn.Module):
    """Nothing is added: a block of its mixer alone."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        return MixerOutput(torch.zeros_like(x), {})
