"""PATNet: four stages of partial attention, convolutions between them that halve the sides and double the channels.

    stem 4 x 4 stride 4, norm · stage · 2 x 2 stride 2, norm · stage · ... · mean, 1 x 1 to 1280, activation, linear

The four stages' maps, at strides 4, 8, 16 and 32, serve detection and segmentation: `features`.
Source: Huang et al., PATNet (2025), as the released code of PartialNet has it.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.architecture import Architecture, check_config
from saccade.models.checkpoint_names import Names
from saccade.models.unwrapping import State
from saccade.papers.patnet.block import PATBlock
from saccade.papers.patnet.official import below
from saccade.papers.patnet.partial import ChannelPAT, normal_
from saccade.papers.patnet.self_attention import SelfPAT
from saccade.papers.patnet.spatial import PATMlp, activation

STAGES = 4
STEM_STRIDE, MERGE_STRIDE = 4, 2
FULL_STRIDE = STEM_STRIDE * MERGE_STRIDE ** (STAGES - 1)


@dataclass(frozen=True, kw_only=True)
class PATNetConfig:
    """Sizes and parts.

    width      channels of the first stage, doubled at each other
    depths     blocks of the four stages
    mixers     of the four stages, any of the kit; FasterNet has "pconv" in all
    spatial    whether feed-forwards end with PAT_sp
    act        "gelu" or "relu"
    heads      of mixers that have some
    divide     share of the channels that PConv, PAT_ch and PAT_sf convolve, one in so many
    ratio      of the feed-forwards
    drop_path  share of the pictures for which the last block's branch is left out in training, less in earlier ones
    layer_scale   weight of those branches at first; None: not weighed
    pooled     channels of the averaged picture
    dense      for detection and segmentation: a norm for each stage's map, and no classifier
    channels, classes   of the pictures; how many labels there are
    Raises ValueError for options out of range.
    """

    width: int = 32
    depths: tuple[int, ...] = (1, 2, 6, 4)
    mixers: tuple[str, ...] = ("pat_ch", "pat_ch", "pat_ch", "pat_sf")
    spatial: bool = True
    act: Literal["gelu", "relu"] = "gelu"
    heads: int = 4
    divide: int = 4
    ratio: float = 2.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    pooled: int = 1280
    dense: bool = False
    channels: int = 3
    classes: int = 1000

    def __post_init__(self) -> None:
        check_config(self, width=2, heads=1, divide=2, pooled=1, channels=1, classes=1)
        for name in ("depths", "mixers"):
            if len(getattr(self, name)) != STAGES:
                raise ValueError(f"{name}={getattr(self, name)} must be {STAGES}, one for each stage")
        if min(self.depths) < 0:
            raise ValueError(f"depths={self.depths} must be numbers of blocks, at least 0")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path={self.drop_path} must be in [0, 1), a share of the pictures")

    def mixer(self, stage: int) -> str:
        """The text of a stage's mixer, its share of convolved channels said where it has one."""
        text = self.mixers[stage]
        return f"{text}(divide={self.divide})" if text in ("pconv", "pat_ch", "pat_sf") else text


T0 = PATNetConfig()
T1 = PATNetConfig(width=48, drop_path=0.02)
T2 = PATNetConfig(width=64, depths=(2, 2, 6, 4), act="relu", drop_path=0.05)
SIZES = {
    "T0": T0,
    "T1": T1,
    "T2": T2,
    "S": replace(T2, width=96, depths=(2, 2, 9, 4), drop_path=0.1),
    "M": replace(T2, width=128, depths=(2, 3, 16, 4), drop_path=0.2),
    "L": replace(T2, width=160, depths=(2, 3, 20, 4), drop_path=0.3),
    "T0-yaml": replace(T0, depths=(1, 2, 8, 2)),
    "T1-yaml": replace(T1, depths=(1, 2, 8, 2)),
}


def _stage_names(stage: int) -> Names:
    """In the released code stages and the layers between them are one list."""
    ours, theirs = f"stages.{stage}.{{}}.", f"stages.{2 * stage}.blocks.{{}}."
    operators = dict((*ChannelPAT.names, *SelfPAT.names))
    return (
        *below(f"{ours}mixer.layer.", f"{theirs}spatial_mixing.", tuple(operators.items())),
        *below(f"{ours}mlp.", f"{theirs}mlp.", PATMlp.names),
        (f"{ours}layer_scale", f"{theirs}layer_scale"),
        (f"merges.{stage}.0.", f"stages.{2 * stage + 1}.reduction."),
        (f"merges.{stage}.1.", f"stages.{2 * stage + 1}.norm."),
        (f"norms.{stage}.", f"norm{2 * stage}."),
    )


class PATNet(Architecture):
    """Logits of pictures (b c h w) whose sides are multiples of 32; with `dense`, four feature maps."""

    config_class = PATNetConfig
    config: PATNetConfig
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("stem.0.", "patch_embed.proj."),
        ("stem.1.", "patch_embed.norm."),
        *(pair for stage in range(STAGES) for pair in _stage_names(stage)),
        ("pool.", "avgpool_pre_head.1."),
        ("head.", "head."),
    )

    def __init__(self, config: PATNetConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        widths = [c.width * 2**i for i in range(STAGES)]
        self.stem = reduction(c.channels, c.width, STEM_STRIDE)
        self.merges = nn.ModuleList(reduction(width, 2 * width, MERGE_STRIDE) for width in widths[:-1])
        drops = iter(torch.linspace(0, c.drop_path, sum(c.depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(self._block(stage, width, next(drops)) for _ in range(c.depths[stage])))
            for stage, width in enumerate(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths) if c.dense else None
        self.pool = None if c.dense else nn.Conv2d(widths[-1], c.pooled, 1, bias=False)
        self.act = activation(c.act)
        self.head = None if c.dense else nn.Linear(c.pooled, c.classes)
        normal_(self)

    def _block(self, stage: int, width: int, drop: float) -> PATBlock:
        c = self.config
        mlp = PATMlp(width, ratio=c.ratio, act=c.act, spatial=c.spatial)
        return PATBlock(c.mixer(stage), width, c.heads, mlp, drop=drop, layer_scale=c.layer_scale)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"] | tuple[Tensor, ...]:
        """Logits, or the maps of `features`. Raises ValueError for other channels or sides."""
        maps = self.features(x)
        if self.pool is None or self.head is None:
            return maps
        return self.head(self.act(self.pool(maps[-1].mean((2, 3), keepdim=True))).flatten(1))

    def features(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """The four stages' maps, widths doubling, at strides 4, 8, 16 and 32; normed in a dense model.

        Raises ValueError for other channels or sides.
        """
        self._check(x)
        maps: list[Tensor] = []
        for enter, stage in zip((self.stem, *self.merges), self.stages, strict=True):
            maps.append(stage(enter(maps[-1] if maps else x)))
        return tuple(maps if self.norms is None else (norm(each) for norm, each in zip(self.norms, maps, strict=True)))

    def official_state(self) -> State:
        """The weights under the released code's names, in its shapes.

        Raises ValueError where some have none, since the released code knows no such configuration.
        """
        found = super().official_state()
        return {name: value.flatten() if name.endswith("layer_scale") else value for name, value in found.items()}

    def from_official(self, state: State) -> State:
        """The released weights in our shapes."""
        return {name: value.view(-1, 1, 1) if name.endswith("layer_scale") else value for name, value in state.items()}

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.config.channels:
            raise ValueError(f"x of shape {tuple(x.shape)} must be pictures (b, {self.config.channels}, h, w)")
        if any(side < FULL_STRIDE or side % FULL_STRIDE for side in x.shape[2:]):
            raise ValueError(f"sides {tuple(x.shape[2:])} of x must be multiples of {FULL_STRIDE}; pad or resize it")


def reduction(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Squares of pixels that do not overlap to one each, normed."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, stride, stride, bias=False), nn.BatchNorm2d(outputs))
