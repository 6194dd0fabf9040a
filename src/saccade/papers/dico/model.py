"""DiCo: a U of convolutions in place of a transformer, for pictures of any sides divisible by 4.

    picture -> D at h x w -> 2D at h/2 -> 4D at h/4 -> 2D at h/2 -> 2D at h x w -> norm, modulation, 3 x 3 -> picture
                  \\                \\_______________________/              /
                   \\_____________________________________________________/

Blocks are the kit's, with the Conv Module as mixer. Each of the three widths has a condition of its own, c = time +
label; the last level, twice as wide as the first, gets that of width 2D. No positions: only the gates see far.

Source: Ai et al., "DiCo: Revitalizing ConvNets for scalable and efficient diffusion modeling" (2025).
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.architecture import Architecture, Prediction, check_config
from saccade.models.checkpoint_names import Names
from saccade.models.unwrapping import State
from saccade.nn.block import DiTBlock, xavier_
from saccade.nn.embedders import LabelEmbedding, TimeEmbedding
from saccade.nn.modulation import ZeroModulation, modulate, norm
from saccade.nn.part import Losses, TokenPositions, added, to_map, to_tokens
from saccade.nn.registry import make_feedforward, make_mixer

LEVELS = {  # ours: (theirs, width over D)
    "encoder1": ("encoder_level_1", 1),
    "encoder2": ("encoder_level_2", 2),
    "middle": ("latent", 4),
    "decoder2": ("decoder_level_2", 2),
    "decoder1": ("decoder_level_1", 2),
}
PARTS = (
    ("modulation.linear.", "adaLN_modulation.1."),
    ("mixer.enter.", "conv1."),
    ("mixer.depthwise.", "conv2."),
    ("mixer.out.", "conv3."),
    ("mixer.gate.linear.", "ca.1."),
    ("ffn.up.", "conv4."),
    ("ffn.down.", "conv5."),
)
POINTWISE = re.compile(r".*\.(conv[1345]|ca\.1)\.weight|reduce_chan_level\d\.weight")


@dataclass(frozen=True, kw_only=True)
class DiCoConfig:
    """Sizes and parts.

    width    D, of the first level; even
    depths   blocks of the five levels, from encoder to decoder
    ratio    of the feed-forwards
    heads    of the first level's mixers, more in wider ones; the Conv Module has none
    mixer    of all blocks
    channels, classes, learned_variance, time_scale   as in `DiTConfig`
    Raises ValueError for options out of range.
    """

    width: int = 128
    depths: tuple[int, ...] = (5, 4, 4, 4, 4)
    ratio: float = 2.0
    heads: int = 2
    channels: int = 4
    classes: int = 1000
    mixer: str = "dico"
    learned_variance: bool = True
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        check_config(self, width=2, heads=1, channels=1, classes=1)
        if self.width % 2:
            raise ValueError(f"width={self.width} must be even: its half goes down to the next level")
        if len(self.depths) != len(LEVELS) or min(self.depths) < 0:
            raise ValueError(f"depths={self.depths} must be five numbers of blocks, from encoder to decoder")
        if int(self.ratio * self.width) < 1:
            raise ValueError(f"ratio={self.ratio} must be above 0, enough for one channel inside a feed-forward")


SIZES = {
    "S": DiCoConfig(),
    "B": DiCoConfig(width=256),
    "L": DiCoConfig(width=352, depths=(9, 8, 9, 8, 9)),
    "XL": DiCoConfig(width=416, depths=(9, 9, 10, 9, 9)),
    "H": DiCoConfig(width=416, depths=(14, 12, 10, 12, 14), ratio=4.0),
}


class DiCo(Architecture):
    """A class-conditional convolutional denoiser; outputs zero at initialisation (adaLN-Zero)."""

    config_class = DiCoConfig
    config: DiCoConfig
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("enter.", "x_embedder.proj."),
        *((f"time.{i}.{ours}.", f"t_embedder_{i + 1}.mlp.{theirs}.")
          for i in range(3) for ours, theirs in (("inner", 0), ("outer", 2))),
        ("label.{}.table.", "y_embedder.embedding_table_{}."),
        *((f"{level}.{{}}.{ours}", f"{theirs}.{{}}.{name}")
          for level, (theirs, _) in LEVELS.items() for ours, name in PARTS),
        ("down1.", "down1_2.body.0."),
        ("down2.", "down2_3.body.0."),
        ("up2.", "up3_2.body.0."),
        ("up1.", "up2_1.body.0."),
        ("join2.", "reduce_chan_level2."),
        ("join1.", "reduce_chan_level1."),
        ("final.modulation.linear.", "final_layer.adaLN_modulation.1."),
        ("final.conv.", "final_layer.out_proj."),
    )  # fmt: skip

    def __init__(self, config: DiCoConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c, d = self.config, self.config.width
        self.time = nn.ModuleList(TimeEmbedding(k * d, scale=c.time_scale) for k in (1, 2, 4))
        self.label = nn.ModuleList(self._condition(k * d) for k in (1, 2, 4))
        self.enter = _conv(c.channels, d, bias=True)
        self.down1, self.down2 = _conv(d, d // 2), _conv(2 * d, d)
        self.up2, self.up1 = _conv(4 * d, 8 * d), _conv(2 * d, 4 * d)
        self.join2, self.join1 = nn.Linear(4 * d, 2 * d), nn.Linear(2 * d, 2 * d)
        for join in (self.join2, self.join1):
            xavier_(join)
        for (level, (_, k)), depth in zip(LEVELS.items(), c.depths, strict=True):
            self.add_module(level, nn.ModuleList(self._block(k) for _ in range(depth)))
        self.final = ConvFinal(2 * d, c.channels * (1 + c.learned_variance))

    def _condition(self, width: int) -> nn.Module:
        return LabelEmbedding(self.config.classes, width)

    def _block(self, k: int) -> DiTBlock:
        c, width = self.config, k * self.config.width
        mixer = make_mixer(c.mixer, width, k * c.heads)
        ffn = make_feedforward(f"mlp(ratio={c.ratio}, tanh=False)", width)
        for part in (mixer, ffn):
            getattr(part, "reset", lambda part=part: xavier_(part))()
        return DiTBlock(width, mixer, ffn)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], labels: Int[Tensor, " b"]) -> Prediction:
        """The objective's prediction at time `t`; label `classes` means none. Sides are any multiples of 4."""
        return self.drawn(x, [time(t) + label(labels) for time, label in zip(self.time, self.label, strict=True)])

    def drawn(self, x: Float[Tensor, "b c h w"], conditions: list[Tensor], *more: Tensor) -> Prediction:
        """The way through the levels; `conditions` for widths D, 2D, 4D, and `more` for every block."""
        self._check(x)
        walk = _Walk(self, conditions, more)
        first = walk("encoder1", self.enter(x))
        second = walk("encoder2", F.pixel_unshuffle(self.down1(first), 2))
        middle = walk("middle", F.pixel_unshuffle(self.down2(second), 2))
        back = walk("decoder2", joined(self.join2, F.pixel_shuffle(self.up2(middle), 2), second))
        last = walk("decoder1", joined(self.join1, F.pixel_shuffle(self.up1(back), 2), first))
        return Prediction(self.final(last, walk.conditions[1]), added(walk.losses))

    def from_official(self, state: State) -> State:
        """The official weights, their 1 x 1 kernels as our matrices."""
        kernels = {name for name, value in state.items() if value.ndim > 2 and POINTWISE.fullmatch(name)}
        return {name: value.flatten(1) if name in kernels else value for name, value in state.items()}

    def official_state(self) -> State:
        """The weights under the official checkpoint's names and shapes."""
        found = super().official_state()
        return {name: value[..., None, None] if POINTWISE.fullmatch(name) else value for name, value in found.items()}

    def _check(self, x: Tensor) -> None:
        if x.shape[1] != self.config.channels:
            raise ValueError(
                f"x of shape {tuple(x.shape)} must have channels={self.config.channels}, as the config says"
            )
        if any(side % 4 for side in x.shape[2:]):
            raise ValueError(f"sides {tuple(x.shape[2:])} of x must be multiples of 4; pad the picture")


class _Walk:
    """One forward through the levels: the condition of each width, and the losses on the way."""

    def __init__(self, model: DiCo, conditions: list[Tensor], more: tuple[Tensor, ...]) -> None:
        self.model, self.conditions, self.more = model, conditions, more
        self.losses: list[Losses] = []

    def __call__(self, level: str, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        grid = (x.shape[2], x.shape[3])
        tokens, conditions, place = to_tokens(x), self.conditions[LEVELS[level][1] // 2], TokenPositions(grid=grid)
        for block in self.model.get_submodule(level):  # type: ignore[attr-defined]
            tokens, losses, _ = block(tokens, conditions, place, *self.more)
            self.losses.append(losses)
        return to_map(tokens, grid)


class ConvFinal(nn.Module):
    """Norm, modulation and a 3 x 3 convolution to pixels; zero at first."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm, self.modulation, self.conv = norm(width), ZeroModulation(width, 2), _conv(width, out, bias=True)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b c"]) -> Float[Tensor, "b k h w"]:
        tokens = modulate(self.norm(to_tokens(x)), *self.modulation(c))
        return self.conv(to_map(tokens, (x.shape[2], x.shape[3])))


def joined(
    layer: nn.Linear, below: Float[Tensor, "b c h w"], across: Float[Tensor, "b e h w"]
) -> Float[Tensor, "b k h w"]:
    """A level's input: what comes up, beside what comes across from the encoder."""
    both = to_tokens(torch.cat((below, across), dim=1))
    return to_map(layer(both), (below.shape[2], below.shape[3]))


def _conv(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    """3 x 3, zeros outside, Xavier-uniform."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
