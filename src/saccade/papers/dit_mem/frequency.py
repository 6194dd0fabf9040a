"""The frequency filter of the memory encoder: fixed weights on the spectrum of a video's features.

    out = BatchNorm( Dropout( irfftn( W rfftn(y) ) ) + y )
    high: g = 0.2 + 0.8 sqrt(rho),  low: g = 1.2 - 0.8 sqrt(rho),  Re W_c = clamp(slope_c g + off_c, 0.2, 1.2)
rho in [0, 1] is how far a frequency lies from 0. W is no parameter: it is drawn once and stored with the model.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.core.layout import Grid

Band = Literal["high", "low"]
FreqLayout = Literal["official", "symmetric"]
AXES = (-3, -2, -1)  # time, height, width
LEAST, MOST = 0.2, 1.2


def distances(grid: Grid, layout: FreqLayout = "official") -> Float[Tensor, "d h w"]:
    """rho of each entry of `rfftn` of a grid (d, h, w), its last axis half as long.

    official   by the entry's index on each axis, as released: on the first two, negative frequencies count as highest
    symmetric  by the size of the frequency
    Raises ValueError for another layout.
    """
    check_word(get_args(FreqLayout), freq_layout=layout)
    d, h, w = grid
    if layout == "official":
        axes = [torch.linspace(0, 1, n) for n in (d, h, w // 2 + 1)]
    else:
        axes = [2 * torch.fft.fftfreq(d).abs(), 2 * torch.fft.fftfreq(h).abs(), 2 * torch.fft.rfftfreq(w)]
    squares = [axis.square().reshape([-1 if i == place else 1 for i in range(3)]) for place, axis in enumerate(axes)]
    return (squares[0] + squares[1] + squares[2]).sqrt() / 3**0.5


def frequency_weights(
    channels: int,
    grid: Grid,
    band: Band,
    *,
    layout: FreqLayout = "official",
    noise: float = 0.05,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "c d h w 2"]:
    """W, real and imaginary parts last, with normal `noise` on both; 0 leaves the plain curve.

    Raises ValueError for another band or layout.
    """
    check_word(get_args(Band), band=band)
    root = distances(grid, layout).sqrt()
    gain = 0.2 + 0.8 * root if band == "high" else 1.2 - 0.8 * root
    slope, offset = (
        torch.linspace(*ends, channels).reshape(-1, 1, 1, 1) for ends in ((0.7, 1.3), (-0.05, 0.05))
    )  # fmt: skip
    real = (slope * gain + offset).clamp(LEAST, MOST)
    drawn = noise * torch.randn(2, *real.shape, generator=generator, device="cpu")
    return torch.stack(((real + drawn[0]).clamp(0.05, MOST), drawn[1]), dim=-1) if noise else _real(real)


def _real(values: Tensor) -> Tensor:
    return torch.stack((values, torch.zeros_like(values)), dim=-1)


class FreqFilter(nn.Module):
    """The filter for features of one grid.

    Raises ValueError as `frequency_weights` does.
    """

    weight: Tensor

    def __init__(
        self,
        channels: int,
        grid: Grid,
        band: Band,
        *,
        layout: FreqLayout = "official",
        noise: float = 0.05,
        dropout: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        meta = torch.get_default_device().type == "meta"  # where only sizes matter
        with torch.device("cpu"):
            weight = frequency_weights(channels, grid, band, layout=layout, noise=noise, generator=generator)
        self.register_buffer("weight", weight.to("meta") if meta else weight)
        self.dropout, self.norm = nn.Dropout(dropout), nn.BatchNorm3d(channels)

    def forward(self, y: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """The spectrum is taken in single precision at least.

        Raises ValueError for features of another grid.
        """
        if tuple(y.shape[2:]) != self.grid:
            raise ValueError(
                f"features of grid {tuple(y.shape[2:])} do not fit the filter's weights, drawn for {self.grid}; give "
                "latents of the encoder's size, or take encoder.resized(latent=...), which draws others"
            )
        fine = y.to(torch.promote_types(y.dtype, torch.float32))
        weight = torch.view_as_complex(self.weight.to(fine.dtype).contiguous())
        spectrum = weight * torch.fft.rfftn(fine, dim=AXES, norm="ortho")
        kept = torch.fft.irfftn(spectrum, s=self.grid, dim=AXES, norm="ortho").to(y.dtype)
        return self.norm(self.dropout(kept) + y)
