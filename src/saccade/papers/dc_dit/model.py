"""DC-DiT: a DiT that works on a few tokens of many, more where and when there is more to draw.

    pixels of the latent -> convolutions -> router keeps some -> DiT blocks on those -> all again -> convolutions

Source: Haridas et al., "DC-DiT: Adaptive Compute and Elastic Inference for Visual Generation via Dynamic Chunking"
(2026).
"""

import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.models.architecture import Architecture, Prediction, check_config, check_picture
from saccade.models.checkpoint_names import Names
from saccade.models.dit import BLOCK_NAMES, CONDITION_NAMES, fresh_block
from saccade.models.parts import Parts, part
from saccade.nn.block import FinalLayer
from saccade.nn.embedders import LabelEmbedding, TimeEmbedding, unpatchify
from saccade.nn.modulation import ModulationKind, SharedModulation
from saccade.nn.part import TokenPositions, to_tokens
from saccade.nn.routing import name_routers
from saccade.papers.dc_dit.chunk_stage import ChunkStage, MainNetwork, StageOptions
from saccade.papers.dc_dit.chunking import Budget, RatioLoss, check_ratio
from saccade.papers.dc_dit.conv_residual import ConvStack
from saccade.papers.dc_dit.dechunking import Dechunk, How
from saccade.runs.denoising import Predict, guided

Layout = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class DCDiTConfig:
    """Sizes, parts, and how tokens are kept.

    layout          ("c2", ("D12",), "c2"): 2 convolution blocks, 12 DiT blocks on the kept tokens, 2 convolution
                    blocks; what stands in the middle may be such a layout itself
    width, heads    of the DiT blocks
    channels        of the picture or latent
    classes         of the labels
    narrow          width of the outer convolutions; 0: a quarter of `width`
    mixer, ffn      one text for all DiT blocks, or one for each
    side            of the picture or latent, in pixels
    router          predictability, neighbours or sequence
    dechunk         smooth, nearest or ema
    sigma           width of the Gaussian in cells (2 for latents of 64)
    modulation, learned_variance, time_scale   as in `DiTConfig`
    ratio           tokens for each kept one that the ratio loss aims at
    ratio_weight    of that loss
    ratio_group     rows over which it takes the mean; None: all rows
    zero_residual   the branch beside the main network starts at zero
    condition_norm  LayerNorm on the condition of the convolutions, for a model made from another's blocks
    Raises ValueError for options out of range.
    """

    layout: Layout = ("c2", ("D12",), "c2")
    width: int = 384
    heads: int = 6
    narrow: int = 0
    side: int = 32
    channels: int = 4
    classes: int = 1000
    mixer: Parts = "attention"
    ffn: Parts = "mlp"
    modulation: ModulationKind = "zero"
    learned_variance: bool = True
    time_scale: float = 1.0
    router: str = "predictability"
    dechunk: How = "smooth"
    sigma: float = 1.0
    ratio: float = 4.0
    ratio_weight: float = 0.03
    ratio_group: int | None = 16
    zero_residual: bool = False
    condition_norm: bool = False

    def __post_init__(self) -> None:
        check_config(self, width=1, heads=1, narrow=0, side=1, channels=1, classes=1, ratio_weight=0)
        if self.ratio_group is not None and self.ratio_group < 1:
            raise ValueError(f"ratio_group={self.ratio_group} must be at least 1, or None for all rows")
        check_ratio(self.ratio)
        object.__setattr__(self, "layout", _tuples(self.layout))
        if len(levels(self.layout)) < 2:
            raise ValueError(f"layout={self.layout} keeps every token; put convolutions around it, or use DiT")
        for name in ("mixer", "ffn"):
            given = getattr(self, name)
            if isinstance(given, tuple) and len(given) != self.depth:
                raise ValueError(f"{name} names {len(given)} parts for {self.depth} blocks; give one, or one for each")

    @property
    def depth(self) -> int:
        """How many DiT blocks."""
        return levels(self.layout)[-1][0]

    @property
    def outer(self) -> int:
        """Width of the outer convolutions."""
        return self.narrow or self.width // 4

    @property
    def stage(self) -> StageOptions:
        """What the stages share."""
        return StageOptions(
            router=self.router,
            dechunk=Dechunk(how=self.dechunk, sigma=self.sigma),
            loss=RatioLoss(group=self.ratio_group),
            loss_weight=self.ratio_weight / (len(levels(self.layout)) - 1),
            zero_residual=self.zero_residual,
        )


def levels(layout: Layout) -> list[tuple[int, int]]:
    """(before, after) counts of blocks at each level, outermost first; at the last (DiT blocks, 0).

    Raises ValueError for a layout that cannot be read.
    """
    match layout:
        case [str(before), [*inner], str(after)]:
            return [(_count(before, "c"), _count(after, "c")), *levels(tuple(inner))]
        case [str(blocks)]:
            return [(_count(blocks, "D"), 0)]
    raise ValueError(f'layout={layout} must be like ("c2", ("D12",), "c2"), with another such in its middle or not')


def _tuples(layout: Any) -> Any:
    return tuple(_tuples(each) for each in layout) if isinstance(layout, (list, tuple)) else layout


def _count(text: str, letter: str) -> int:
    found = re.fullmatch(rf"{letter}([1-9]\d*)", text)
    if found is None:
        raise ValueError(f"'{text}' in the layout must be '{letter}' and a number of blocks, such as '{letter}2'")
    return int(found[1])


SIZES = {
    name: DCDiTConfig(layout=("c2", (f"D{depth}",), "c2"), width=width, heads=heads)
    for name, depth, width, heads in (("S", 12, 384, 6), ("B", 12, 768, 12), ("L", 24, 1024, 16), ("XL", 28, 1152, 16))
}


class DCDiT(Architecture):
    """A class-conditional diffusion transformer with dynamic chunking; outputs zero at initialisation (adaLN-Zero)."""

    config_class = DCDiTConfig
    config: DCDiTConfig
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("stage.inner.positions", "pos_embed"),
        ("pixels.", "x_embedder.proj."),
        *CONDITION_NAMES,
        *(
            (f"stage.{coder}.blocks.{{}}.{ours}.", f"hnet.{coder}.layers.{{}}.{theirs}.")
            for coder in ("encoder", "decoder")
            for ours, theirs in (
                *((name, name) for name in ("norm1", "norm2", "conv1", "conv2")),
                ("condition", "cond_proj.1"),
                ("skip", "skip_proj"),
            )
        ),
        ("stage.encoder.norm.", "hnet.encoder.rmsnorm."),
        ("stage.decoder.norm.", "hnet.decoder.rmsnorm."),
        ("stage.residual.", "hnet.residual_proj."),
        ("stage.router.score.proj.", "hnet.routing_module.proj."),
        ("stage.router.score.context.", "hnet.routing_module.context_predictor."),
        ("stage.router.score.scorer.", "hnet.routing_module.residual_scorer."),
        *(
            (f"stage.inner.blocks.{{}}.{ours}", f"hnet.main_network.main_network.layers.{{}}.{theirs}")
            for ours, theirs in BLOCK_NAMES
        ),
        ("stage.inner.norm.", "hnet.main_network.main_network.rmsnorm."),
    )

    def __init__(self, config: DCDiTConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.grid = (c.side, c.side)
        self.pixels = nn.Conv2d(c.channels, c.outer, 3, padding=1)
        nn.init.xavier_uniform_(self.pixels.weight.view(c.outer, -1))
        nn.init.zeros_(self.pixels.bias)  # type: ignore[arg-type]
        self.time, self.label = TimeEmbedding(c.width, scale=c.time_scale), LabelEmbedding(c.classes, c.width)
        self.stage = self._stage()
        self.final = FinalLayer(c.outer, c.channels * (1 + c.learned_variance), condition=c.width)
        name_routers(self)

    def _stage(self) -> ChunkStage:
        c = self.config
        inner: Any = self._main()
        found = levels(c.layout)[:-1]
        for depth, (before, after) in reversed([*enumerate(found)]):
            width, axes = c.width if depth == len(found) - 1 else c.outer, 1 if depth else 2
            encoder, decoder = (
                ConvStack(widths, c.width, axes=axes, condition_norm=c.condition_norm)
                for widths in ((c.outer,) * before + (width,), (width,) + (c.outer,) * after)
            )
            options = replace(c.stage, router="sequence") if depth else c.stage
            inner = ChunkStage(encoder, inner, decoder, width, options)
        return inner

    def _main(self) -> nn.Module:
        c = self.config
        blocks = (fresh_block(part(c.mixer, i), part(c.ffn, i), c.width, c.heads, c.modulation) for i in range(c.depth))
        return MainNetwork(blocks, c.width, self.grid, SharedModulation(c.width) if c.modulation != "zero" else None)

    def macs(self, *inputs: Any) -> int:
        """Multiply-adds of a forward that keeps as many tokens as the configuration aims at."""
        from saccade.papers.dc_dit.cost import flops

        return len(inputs[0]) * int(flops(self.config, self.config.side**2 / self.config.ratio).total // 2)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"],
        labels: Int[Tensor, " b"],
        *,
        rho: float | Float[Tensor, " *r"] = 0.0,
        ratio: float | None = None,
    ) -> Prediction:
        """The objective's prediction at time `t`; label `classes` means none.

        rho    share of the kept tokens that are dropped, least likely first; one for all rows, or one for each
        ratio  that the ratio loss aims at now; None: that of the config
        """
        check_picture(x, self.config)
        self._check_rows(len(x))
        c, budget = (
            self.time(t) + self.label(labels),
            Budget(rho=rho, ratio=self.config.ratio if ratio is None else ratio),
        )
        cells = torch.arange(self.grid[0] * self.grid[1], device=x.device).expand(len(x), -1)
        out, losses, _ = self.stage(to_tokens(self.pixels(x)), c, TokenPositions(grid=self.grid), cells, budget)
        return Prediction(unpatchify(self.final(out, c), self.grid, 1), losses)

    def _check_rows(self, rows: int) -> None:
        """The ratio loss of training averages over whole groups of rows."""
        group = self.config.ratio_group
        if self.training and group is not None and rows % group:
            raise ValueError(
                f"a batch of {rows} rows cannot be parted into groups of ratio_group={group}; train on multiples of it "
                f"(of what one process works through at once), or set ratio_group=None to average over all rows"
            )


def lite_guided(
    model: DCDiT, labels: Int[Tensor, " b"], *, scale: float = 1.25, rho: float = 0.9, channels: int | None = 3
) -> Predict:
    """Guidance whose unconditional half drops `rho` of its tokens (Lite-CFG); one call of both halves.

    `channels`: that are guided, as the original DiT does with 3 of 4; None guides all.
    """
    null = model.config.classes

    def lite(z: Tensor, t: Tensor, labels: Tensor) -> Prediction:
        return model(z, t, labels, rho=torch.where(labels == null, rho, 0.0))

    return guided(lite, labels, torch.full_like(labels, null), scale, channels)
