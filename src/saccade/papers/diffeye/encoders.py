"""Frozen features of a picture, one for each cell of a grid, handed in: hand-made, or by a vision transformer.

An encoder is anything with `grid`, `features`, `pixels` and a call from pictures (b 3 h w) in [0, 1] to `Encoded`.

ColourEdges   mean colour and, where asked, spread and edges of each cell; without learning
HostTokens    last hidden states of a Dinov2Model of transformers, or a ViT of timm; the picture is stretched to what
              the model takes, and its tokens upsampled to the grid in the place of FeatUp, which is not there
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.checks import check_word
from saccade.nn.eval_mode import eval_mode
from saccade.papers.diffeye.upsampling import by_colour

Pictures = Float[Tensor, "b 3 h w"]
Upsample = Literal["bilinear", "colour"]
EDGES = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))  # Sobel, from left to right
GREY = (0.299, 0.587, 0.114)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class Encoded(NamedTuple):
    """`tokens` row by row over the grid, and one `summary` of the picture."""

    tokens: Float[Tensor, "b n c"]
    summary: Float[Tensor, "b c"]


class Encoder(Protocol):
    """Features of pictures; `pixels`, (height, width), is the picture that CPE's grid stands for."""

    @property
    def grid(self) -> tuple[int, int]: ...

    @property
    def features(self) -> int: ...

    @property
    def pixels(self) -> tuple[int, int]: ...

    def __call__(self, pictures: Pictures) -> Encoded: ...


@dataclass(frozen=True, kw_only=True)
class ColourEdges:
    """Mean colour of each cell, in [-1, 1]; with `edges` also its standard deviation and Sobel edges, both ways.

    Raises ValueError for a grid that is finer than the pixels.
    """

    grid: tuple[int, int] = (16, 16)
    pixels: tuple[int, int] = (224, 224)
    edges: bool = True

    def __post_init__(self) -> None:
        if min(self.grid) < 1 or any(a > b for a, b in zip(self.grid, self.pixels, strict=True)):
            raise ValueError(f"grid={self.grid} must be within pixels={self.pixels}")

    @property
    def features(self) -> int:
        """Channels of a token."""
        return 8 if self.edges else 3

    def __call__(self, pictures: Pictures) -> Encoded:
        """Raises ValueError for pictures that are not in [0, 1]."""
        check_pictures(pictures)
        x = stretched(pictures, self.pixels)
        mean = F.adaptive_avg_pool2d(x, self.grid)
        parts = [2 * mean - 1]
        if self.edges:
            square = F.adaptive_avg_pool2d(x.square(), self.grid)
            parts += [(square - mean.square()).clamp(min=0).sqrt(), F.adaptive_avg_pool2d(_edges(x), self.grid)]
        tokens = torch.cat(parts, dim=1).flatten(2).mT
        return Encoded(tokens, tokens.mean(1))


class HostTokens:
    """Tokens of a frozen vision transformer: transformers' (`last_hidden_state`) or timm's (`forward_features`).

    side       of the square picture it is given, a multiple of its patch
    grid       that tokens are upsampled to; FeatUp's default of 32 x 32
    upsample   "bilinear", or by "colour": neighbours count by how alike the picture is there
    mean, std  of the colours it was trained on
    The summary is its class token, or the mean of the tokens where it has none.
    Raises ValueError for a model that says no patch size, and a side that it does not divide.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        side: int = 224,
        grid: tuple[int, int] = (32, 32),
        upsample: Upsample = "bilinear",
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> None:
        check_word(get_args(Upsample), upsample=upsample)
        self.model, self.grid, self.pixels, self.upsample = model, grid, (side, side), upsample
        patch, self.features, self.prefix = _measures(model)
        if side % patch:
            raise ValueError(f"side={side} must be a multiple of the model's patch of {patch} pixels")
        self.own_grid = (side // patch, side // patch)
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> Encoded:
        """Raises ValueError for pictures that are not in [0, 1]."""
        check_pictures(pictures)
        x = stretched(pictures, self.pixels)
        like = next(self.model.parameters())
        with eval_mode(self.model):
            hidden = self._hidden(((x - self.mean.to(x)) / self.std.to(x)).to(like)).to(pictures)
        tokens = hidden[:, self.prefix :].mT.unflatten(2, self.own_grid)
        fine = F.interpolate(tokens, size=self.grid, mode="bilinear", align_corners=False)
        fine = by_colour(fine, F.adaptive_avg_pool2d(x, self.grid)) if self.upsample == "colour" else fine
        summary = hidden[:, 0] if self.prefix else tokens.mean((2, 3))
        return Encoded(fine.flatten(2).mT, summary)

    def _hidden(self, x: Tensor) -> Float[Tensor, "b n c"]:
        if hasattr(self.model, "forward_features"):
            return self.model.forward_features(x)  # type: ignore[operator]
        return self.model(pixel_values=x).last_hidden_state


def stretched(pictures: Pictures, pixels: tuple[int, int]) -> Float[Tensor, "b 3 y x"]:
    """To (height, width), each side by its own factor."""
    if pictures.shape[2:] == pixels:
        return pictures
    found = F.interpolate(pictures, size=pixels, mode="bicubic", align_corners=False, antialias=True)
    return found.clamp(0, 1)


def check_pictures(pictures: Pictures) -> None:
    """Raise ValueError unless they are of three channels, in [0, 1]."""
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not (0 <= pictures.min() <= pictures.max() <= 1):
        low, high = float(pictures.min()), float(pictures.max())
        raise ValueError(f"pictures {tuple(pictures.shape)} from {low} to {high} must be (b, 3, h, w) in [0, 1]")


def _measures(model: nn.Module) -> tuple[int, int, int]:
    """Patch size, width, and tokens before those of patches."""
    if hasattr(model, "forward_features") and hasattr(model, "patch_embed"):
        embed: Any = model.patch_embed
        return int(embed.patch_size[0]), int(model.num_features), int(model.num_prefix_tokens)  # type: ignore[arg-type]
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "patch_size") or not hasattr(config, "hidden_size"):
        raise ValueError(f"model={type(model).__name__} is no Dinov2Model or ViT with a patch size; write an encoder")
    return config.patch_size, config.hidden_size, 1 + getattr(config, "num_register_tokens", 0)


def _edges(x: Pictures) -> Float[Tensor, "b 2 h w"]:
    """How strongly brightness changes from left to right, and downwards."""
    grey = (x * torch.tensor(GREY).to(x).view(1, 3, 1, 1)).sum(1, keepdim=True)
    across = torch.tensor(EDGES).to(x)
    kernels = torch.stack((across, across.T))[:, None]
    return F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels).abs()
