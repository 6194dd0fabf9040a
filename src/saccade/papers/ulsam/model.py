"""MobileNetV1 and V2, whose late blocks ULSAM follows or replaces: the compact CNNs of the paper's tables.

Layers are numbered with the stem as 1: separable blocks 2 to 14 in V1, bottlenecks 2 to 18 in V2.
Sources: Howard et al., MobileNets (2017); Sandler et al., MobileNetV2 (2018); Saini et al., ULSAM (2020).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.architecture import Architecture, check_config
from saccade.papers.ulsam.subspace_attention import ULSAM

STAGES = {  # expansion, channels, blocks, stride
    1: ((1, 64, 1, 1), (1, 128, 2, 2), (1, 256, 2, 2), (1, 512, 6, 2), (1, 1024, 2, 2)),
    2: ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
}
STEM, FULL_STRIDE = 32, 32


class Layer(NamedTuple):
    """One block: channels in and out, how much wider it is inside, and its stride."""

    inputs: int
    outputs: int
    expansion: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class ULSAMMobileNetConfig:
    """Sizes, and where ULSAM stands.

    version        1 or 2, of MobileNet
    multiplier     of all widths, which are rounded to multiples of 8
    added          layers that ULSAM follows, the stem being 1
    instead        layers that ULSAM replaces; those that keep channels and sides
    groups, norm_act   of ULSAM
    stride         of all layers together, 32 or less for small pictures: the first ones then do not reduce
    channels, classes   of the pictures; how many labels there are
    Raises ValueError for options out of range and layers that cannot be replaced.
    """

    version: Literal[1, 2] = 2
    multiplier: float = 1.0
    added: tuple[int, ...] = ()
    instead: tuple[int, ...] = ()
    groups: int = 4
    norm_act: bool = True
    stride: int = FULL_STRIDE
    channels: int = 3
    classes: int = 1000

    def __post_init__(self) -> None:
        check_config(self, groups=1, channels=1, classes=1)
        if self.version not in STAGES:
            raise ValueError(f"version={self.version} must be 1 or 2")
        if not self.multiplier > 0:
            raise ValueError(f"multiplier={self.multiplier} must be above 0")
        if self.stride not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"stride={self.stride} must be a power of two up to {FULL_STRIDE}")
        self._check_layers()

    def _check_layers(self) -> None:
        layers = self.layers()
        for name in ("added", "instead"):
            for number in getattr(self, name):
                if number not in layers:
                    raise ValueError(f"{name}={number} is no layer; blocks are 2 to {max(layers)}")
        for number in self.instead:
            layer = layers[number]
            if layer.inputs != layer.outputs or layer.stride > 1:
                raise ValueError(
                    f"instead={number}: layer {number} turns {layer.inputs} channels into {layer.outputs} at stride "
                    f"{layer.stride}; only one that keeps channels and sides can be replaced"
                )

    def layers(self) -> dict[int, Layer]:
        """All blocks by number."""
        found: dict[int, Layer] = {}
        inputs, reduced = self.width(STEM), 2
        for expansion, channels, blocks, stride in STAGES[self.version]:
            for i in range(blocks):
                outputs, first = self.width(channels), stride if i == 0 else 1
                reduced *= first
                found[len(found) + 2] = Layer(inputs, outputs, expansion, first if self._reduces(reduced) else 1)
                inputs = outputs
        return found

    @property
    def stem_stride(self) -> int:
        """Of the first convolution."""
        return 2 if self._reduces(2) else 1

    def width(self, channels: int) -> int:
        """A width times the multiplier, to the nearest multiple of 8, never 10 % less."""
        wanted = channels * self.multiplier
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 * (rounded < 0.9 * wanted)

    def _reduces(self, reduced: int) -> bool:
        """Whether the layer at which all strides so far are `reduced` keeps its own: the last ones do."""
        return reduced * self.stride > FULL_STRIDE


V1, V2 = ULSAMMobileNetConfig(version=1), ULSAMMobileNetConfig()
SIZES = {
    "V1": V1,
    "V1-added": ULSAMMobileNetConfig(version=1, added=(12,), groups=8),
    "V1-substituted": ULSAMMobileNetConfig(version=1, instead=(10,)),
    "V1-0.75": ULSAMMobileNetConfig(version=1, multiplier=0.75),
    "V1-0.75-substituted": ULSAMMobileNetConfig(version=1, multiplier=0.75, instead=(10,), groups=1),
    "V1-0.5": ULSAMMobileNetConfig(version=1, multiplier=0.5),
    "V1-0.5-substituted": ULSAMMobileNetConfig(version=1, multiplier=0.5, instead=(10,), groups=1),
    "V2": V2,
    "V2-added": ULSAMMobileNetConfig(added=(17,)),
    "V2-262M": ULSAMMobileNetConfig(instead=(14, 17)),
    "V2-269M": ULSAMMobileNetConfig(instead=(16, 17)),
    "V2-224M": ULSAMMobileNetConfig(instead=(13, 14, 16, 17)),
}


class ULSAMMobileNet(Architecture):
    """Logits of pictures (b c h w) of any sides; `blocks` are layers 2 and on."""

    config_class = ULSAMMobileNetConfig
    config: ULSAMMobileNetConfig
    sizes: ClassVar[dict[str, Any]] = SIZES

    def __init__(self, config: ULSAMMobileNetConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c, layers = self.config, self.config.layers()
        self.stem = Convolution(c.channels, c.width(STEM), 3, stride=c.stem_stride, relu6=c.version == 2)
        self.blocks = nn.ModuleList(self._block(number, layer) for number, layer in layers.items())
        width = layers[max(layers)].outputs
        last = max(1280, c.width(1280)) if c.version == 2 else width
        self.last = Convolution(width, last, 1) if c.version == 2 else nn.Identity()
        self.head = nn.Linear(last, c.classes)

    def _block(self, number: int, layer: Layer) -> nn.Module:
        c = self.config
        module: nn.Module
        if number in c.instead:
            module = ULSAM(layer.outputs, groups=c.groups, norm_act=c.norm_act)
        else:
            module = Separable(layer) if c.version == 1 else Bottleneck(layer)
        if number not in c.added:
            return module
        return Followed(module, ULSAM(layer.outputs, groups=c.groups, norm_act=c.norm_act))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Logits."""
        return self.head(self.features(x).mean((2, 3)))

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """The map that is averaged for the last layer."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)

    def ulsams(self) -> dict[int, ULSAM]:
        """The modules by the number of their layer."""
        return {
            number: part
            for number, block in enumerate(self.blocks, start=2)
            for part in block.modules()
            if isinstance(part, ULSAM)
        }


class Followed(nn.Module):
    """A block, and ULSAM on what it gives."""

    def __init__(self, block: nn.Module, ulsam: ULSAM) -> None:
        super().__init__()
        self.block, self.ulsam = block, ulsam

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """The block's shape."""
        return self.ulsam(self.block(x))


class Convolution(nn.Sequential):
    """A convolution, its norm and its activation; `relu6`: None for no activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu6: bool | None = True
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        active = () if relu6 is None else (nn.ReLU6() if relu6 else nn.ReLU(),)
        super().__init__(conv, nn.BatchNorm2d(outputs), *active)


class Separable(nn.Sequential):
    """MobileNetV1's block: each channel by itself, then all of each place."""

    def __init__(self, layer: Layer) -> None:
        inputs, outputs, _, stride = layer
        depthwise = Convolution(inputs, inputs, 3, stride=stride, groups=inputs, relu6=False)
        super().__init__(depthwise, Convolution(inputs, outputs, 1, relu6=False))


class Bottleneck(nn.Module):
    """MobileNetV2's block: wider, each channel by itself, narrow again; a residual where the shape stays."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        inputs, outputs, expansion, stride = layer
        wide = inputs * expansion
        enter = [Convolution(inputs, wide, 1)] if expansion > 1 else []
        depthwise = Convolution(wide, wide, 3, stride=stride, groups=wide)
        self.parts = nn.Sequential(*enter, depthwise, Convolution(wide, outputs, 1, relu6=None))
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Sides divided by the stride."""
        return x + self.parts(x) if self.residual else self.parts(x)
