"""Stages of the U-Net: residual convolutions over time, self-attention among samples, cross-attention to the picture.

Sequences are (b l c), but within convolutions.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.cross_attention import CrossAttention
from saccade.papers.diffeye.config import DiffEyeConfig
from saccade.papers.diffeye.corresponding import CorrespondingPositions, Lookup


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What all stages share: where samples are, (x, y) in [-1, 1]; the picture's tokens; the embedded time step."""

    points: Float[Tensor, "b l 2"]
    tokens: Float[Tensor, "b n d"] | None
    time: Float[Tensor, "b e"]

    def points_at(self, length: int) -> Float[Tensor, "b k 2"]:
        """Of samples pooled to another length, each the mean of those it stands for."""
        if length == self.points.shape[1]:
            return self.points
        return F.avg_pool1d(self.points.mT, self.points.shape[1] // length).mT


class ResidualBlock(nn.Module):
    """Two convolutions, the time step added between them."""

    def __init__(self, into: int, width: int, time: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, into), nn.Conv1d(into, width, 3, padding=1)
        self.time = nn.Linear(time, width)
        self.norm2, self.conv2 = nn.GroupNorm(groups, width), nn.Conv1d(width, width, 3, padding=1)
        self.skip = nn.Linear(into, width) if into != width else nn.Identity()

    def forward(self, x: Float[Tensor, "b l i"], time: Float[Tensor, "b e"]) -> Float[Tensor, "b l o"]:
        h = self.conv1(F.silu(self.norm1(x.mT))) + self.time(F.silu(time))[..., None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h))).mT


class Looking(nn.Module):
    """Cross-attention of samples to image tokens; positions of where each sample is are added to its query."""

    def __init__(self, width: int, config: DiffEyeConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = CrossAttention(width, config.heads, key_width=config.width)
        self.positions = CorrespondingPositions(width, config.pixels)
        self.placed = config.cpe_of in ("both", "points") and config.cpe_at == "stages"
        self.lookup: Lookup = config.lookup

    def forward(self, x: Float[Tensor, "b l c"], seen: Seen) -> Float[Tensor, "b l c"]:
        queries = self.norm(x)
        if self.placed:
            queries = queries + self.positions.at(seen.points_at(x.shape[1]), self.lookup).to(x.dtype)
        return x + self.attend(queries, seen.tokens)


class Stage(nn.Module):
    """Residual blocks, then self-attention over time, then cross-attention where `looks`."""

    def __init__(self, into: int, width: int, config: DiffEyeConfig, *, blocks: int, looks: bool) -> None:
        super().__init__()
        widths = [into, *[width] * blocks]
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, config.width, config.groups) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.norm, self.attend = nn.LayerNorm(width), CrossAttention(width, config.heads)
        self.look = Looking(width, config) if looks else None

    def forward(self, x: Float[Tensor, "b l i"], seen: Seen) -> Float[Tensor, "b l o"]:
        for block in self.blocks:
            x = block(x, seen.time)
        x = x + self.attend(self.norm(x))
        return x if self.look is None else self.look(x, seen)


class Down(nn.Module):
    """Half as many samples."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "b l c"]) -> Float[Tensor, "b k c"]:
        return self.conv(x.mT).mT


class Up(nn.Module):
    """Twice as many samples, each repeated, then mixed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b l c"]) -> Float[Tensor, "b k c"]:
        return self.conv(torch.repeat_interleave(x, 2, dim=1).mT).mT
