"""Gates on channels, by what the whole picture holds.

cca        sigmoid(W mean(x) + b): one layer, nothing reduced; DiCo's compact channel attention
se         the same through a narrow layer and a ReLU: squeeze and excitation
channels   softmax attention among the channels themselves
none       1

Means are taken in float32 at least: over large maps, half precision does not add up.

Sources: Ai et al., DiCo (2025); Hu et al., squeeze and excitation (2018); Zamir et al., Restormer (2022).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class CompactChannelAttention(nn.Module):
    """x times a gate in (0, 1) for each channel, which sees x by its mean only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n c"], keep: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n c"]:
        return x * self.gate(mean_over(x, keep))[:, None]

    def gate(self, mean: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """The gate of a picture with these means; of one sampled in tiles, give the mean over all tiles."""
        return self.linear(mean).sigmoid()


class SqueezeExcitation(CompactChannelAttention):
    """The gate through a layer `reduction` times as narrow."""

    def __init__(self, width: int, *, reduction: int = 16) -> None:
        super().__init__(width)
        narrow = max(1, width // reduction)
        self.linear = nn.Sequential(nn.Linear(width, narrow), nn.ReLU(), nn.Linear(narrow, width))


class ChannelSelfAttention(nn.Module):
    """Each channel a mean of all, by the cosines of what their queries and keys hold over the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.sharpness = nn.Parameter(torch.ones(()))

    def forward(self, x: Float[Tensor, "b n c"], keep: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n c"]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = (F.normalize(each if keep is None else each * keep[..., None], dim=1) for each in (q, k))
        return v @ (self.sharpness * k.mT @ q).softmax(dim=1)


class Ungated(nn.Module):
    """x as it is."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b n c"], keep: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n c"]:
        return x


GATES: dict[str, Callable[[int], nn.Module]] = {
    "cca": CompactChannelAttention,
    "se": SqueezeExcitation,
    "channels": ChannelSelfAttention,
    "none": Ungated,
}


def make_gate(name: str, width: int) -> nn.Module:
    """The gate of that name: `gate(x, keep)`, same shape.

    Raises ValueError for an unknown gate.
    """
    if name not in GATES:
        raise ValueError(f"gate='{name}' is unknown; choose one of {', '.join(GATES)}")
    return GATES[name](width)


def mean_over(x: Float[Tensor, "b n c"], keep: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b c"]:
    """Mean over the tokens that are there, in float32 at least; 0 where none is."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if keep is None:
        return x.mean(1, dtype=wide).to(x.dtype)
    total = (x * keep[..., None]).sum(1, dtype=wide)
    return (total / keep.sum(1, keepdim=True).clamp(min=1)).to(x.dtype)
