"""A small convolutional classifier whose features judge generated pictures, trained in minutes on one core.

Residual stages at 16, 8 and 4 cells a side: half a million parameters. The features are means over the four quarters of
the picture, so that they tell where things are, and of unit variance, so that distances between them have a scale.
"""

from dataclasses import dataclass
from math import log2
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.architecture import Architecture, check_config

GRID = 16


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """`side`: of the pictures, 16 times a power of two; `width`: channels of the first stage, doubled twice.

    Raises ValueError for options out of range.
    """

    side: int = 32
    channels: int = 3
    classes: int = 10
    width: int = 32

    def __post_init__(self) -> None:
        check_config(self, side=GRID, channels=1, classes=2, width=1)
        if not log2(self.side / GRID).is_integer():
            raise ValueError(f"side={self.side} must be {GRID} times a power of two, such as 16, 32 or 64")

    @property
    def features(self) -> int:
        """How many numbers describe a picture."""
        return 4 * self.width


class Classifier(Architecture):
    """Logits of pictures in [-1, 1]; `features` are what the last layer reads."""

    config_class = ClassifierConfig
    sizes: ClassVar = {"small": ClassifierConfig()}

    def __init__(self, config: ClassifierConfig | None = None, **changes: int) -> None:
        super().__init__(config, **changes)
        self.stem = Patches(self.config.channels, self.config.width, self.config.side // GRID)
        widths = [self.config.width * 2**i for i in range(3)]
        stages = [Residual(widths[0])]
        for narrow, wide in zip(widths, widths[1:], strict=False):
            stages += [Convolution(narrow, wide, stride=2), Residual(wide)]
        self.stages = nn.Sequential(*stages, nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.neck = nn.Linear(widths[-1], widths[0])
        self.norm = nn.BatchNorm1d(self.config.features, affine=False)
        self.head = nn.Linear(self.config.features, self.config.classes)

    def features(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """What a picture is like."""
        cells = self.neck(self.stages(self.stem(x)).movedim(1, -1)).relu()
        quarters = cells.unflatten(1, (2, -1)).unflatten(3, (2, -1)).mean((2, 4))
        return self.norm(quarters.flatten(1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        return self.head(self.features(x))


class Convolution(nn.Module):
    """3 x 3, its weight kept as a matrix (outputs, inputs x 9) so that Muon can train it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.stride = inputs, stride
        self.weight = nn.Parameter(torch.randn(outputs, inputs * 9) * (2 / (inputs * 9)) ** 0.5)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d a b"]:
        """Padded by one cell."""
        return F.conv2d(x, self.weight.view(-1, self.inputs, 3, 3), stride=self.stride, padding=1)


class Residual(nn.Module):
    """Two convolutions that add to what they read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts = [nn.BatchNorm2d(width), nn.ReLU(), Convolution(width, width)]
        parts += [nn.BatchNorm2d(width), nn.ReLU(), Convolution(width, width)]
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Same shape."""
        return x + self.parts(x)


class Patches(nn.Module):
    """Blocks of pixels to cells, then one convolution."""

    def __init__(self, channels: int, width: int, block: int) -> None:
        super().__init__()
        self.block = block
        self.mix = Convolution(channels * block**2, width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d a b"]:
        """(h, w) a multiple of the block."""
        return self.mix(F.pixel_unshuffle(x, self.block).contiguous(memory_format=torch.channels_last))
