"""Sizes of the memory encoder, and the grids they come to."""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from saccade.core.checks import check_word
from saccade.core.layout import Grid
from saccade.models.architecture import check_config
from saccade.papers.dit_mem.frequency import Band, FreqLayout

Tokens = Literal["time", "grid", "fine_grid"]
KERNEL = 7  # of the first convolution, padded by 3


@dataclass(frozen=True, kw_only=True)
class MemoryEncoderConfig:
    """The defaults are those for Wan2.1-T2V-1.3B at 81 frames of 480 x 832.

    dim          width of the transformer that reads the memory
    latent       (frames, height, width) of the latents, for which the filters are drawn
    channels     of the latents;  widths  of the two convolutions
    length       L, tokens of each video and branch, with tokens="time"
    heads        of the attention among tokens
    branches     "high", "low", or one of them
    tokens       "time": all of a frame is one token, and time is pooled to L, as released; with one frame left, as at
                 full size, the L tokens are equal. "grid": a token for each place after the second block;
                 "fine_grid": before its pooling
    freq_layout  "official" or "symmetric", see `frequency.distances`
    stride       of the first convolution;  pools  of the two blocks
    reference    grid to which the second block's output is pooled where another comes out; None: that of `latent`
    noise, seed  of the filters' weights;  dropout  within the filters
    Raises ValueError for options out of range, and latents too small for the pools.
    """

    dim: int = 1536
    latent: Grid = (21, 60, 104)
    channels: int = 16
    widths: tuple[int, int] = (512, 768)
    length: int = 100
    heads: int = 8
    branches: tuple[Band, ...] = ("high", "low")
    tokens: Tokens = "time"
    freq_layout: FreqLayout = "official"
    stride: Grid = (4, 4, 4)
    pools: tuple[Grid, Grid] = ((2, 2, 2), (2, 2, 2))
    reference: Grid | None = None
    noise: float = 0.05
    seed: int = 0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_config(self, dim=1, channels=1, length=1, heads=1, noise=0, dropout=0)
        check_word(get_args(Tokens), tokens=self.tokens)
        check_word(get_args(FreqLayout), freq_layout=self.freq_layout)
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} must be a multiple of heads={self.heads}")
        if not self.branches or {*self.branches} - {*get_args(Band)} or len({*self.branches}) < len(self.branches):
            raise ValueError(f"branches={self.branches} must be 'high', 'low' or both, each once")
        used = self.grids[: 2 if self.tokens == "fine_grid" else 3]
        if min(map(min, used)) < 1:
            raise ValueError(
                f"latent={self.latent} is too small: with stride={self.stride} and pools={self.pools} the grids are "
                f"{', '.join(map(str, used))}; give larger latents, or smaller strides and pools"
            )

    @property
    def grids(self) -> tuple[Grid, Grid, Grid]:
        """After the first convolution, after the first block, and after the second."""
        return grids_of(self.latent, self.stride, self.pools)

    @property
    def final(self) -> Grid:
        """The grid of the tokens."""
        return self.grids[1] if self.tokens == "fine_grid" else self.reference or self.grids[2]

    @property
    def features(self) -> int:
        """What becomes one token."""
        return self.widths[1] * (prod(self.final[1:]) if self.tokens == "time" else 1)

    @property
    def tokens_of_a_video(self) -> int:
        """Of each branch."""
        return self.length if self.tokens == "time" else prod(self.final)


def grids_of(latent: Grid, stride: Grid, pools: tuple[Grid, Grid]) -> tuple[Grid, Grid, Grid]:
    """The grids that latents of a size come to."""
    d, h, w = ((n - 1) // s + 1 for n, s in zip(latent, stride, strict=True))
    middle = _shrunk((d, h, w), pools[0])
    return (d, h, w), middle, _shrunk(middle, pools[1])


def _shrunk(grid: Grid, by: Grid) -> Grid:
    d, h, w = (n // p for n, p in zip(grid, by, strict=True))
    return d, h, w
