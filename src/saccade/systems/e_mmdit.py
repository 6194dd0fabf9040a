"""E-MMDiT, a small text-to-image transformer of two streams (2025): the model, and its subregions for trained models.

    paper                              here
    ASA(r, n), group floor(t/n) mod r  (regions, run) of nn.subregions; mixer "asa"; `Subregions` on a trained model
    AdaLN-affine, b + T (1 + s)        nn.modulation.TableModulation(affine=True)
    multi-path compression             nn.compression.TokenCompressor, TokenReconstructor
    Position Reinforcement             reinforce of models.e_mmdit_config.EMMDiTConfig
    joint attention, block             nn.joint_attention
    alignment with DINOv2              models.alignment

Differs: see PAPER.deviations. Source: the paper and its code, AMD-AGI/Nitro-E.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.clock import Clock
from saccade.core.layout import Layout, Segment
from saccade.core.masks import CoarseRule, Device, Mask, OnHeads, Rule, Table
from saccade.core.mechanism import PlanItem
from saccade.core.registry import Paper, system
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.models.e_mmdit import EMMDiT
from saccade.models.e_mmdit_config import SIZES, EMMDiTConfig
from saccade.nn.modulation import Kind
from saccade.nn.subregions import ALTERNATING, FULL, Pattern, check_pattern, group_of

PAPER = Paper(
    title="E-MMDiT: Revisiting Multimodal Diffusion Transformer Design for Fast Image Synthesis under Limited "
    "Resources",
    year=2025,
    arxiv="2510.27135",
    bibtex="""@article{shen2025emmdit,
  title   = {{E-MMDiT}: Revisiting Multimodal Diffusion Transformer Design for Fast Image Synthesis under Limited
             Resources},
  author  = {Shen, Tong and Yu, Jingai and Zhou, Dong and Li, Dong and Barsoum, Emad},
  journal = {arXiv preprint arXiv:2510.27135},
  year    = {2025}
}""",
    claims=(
        "304M parameters, 25M public pictures, a day and a half on 8 MI300X: GenEval 0.66 at 512 px, 0.72 after GRPO",
        "18.8 pictures a second on one MI300X in 20 steps, 39.3 in 4 steps after distillation",
    ),
    deviations=(
        "pictures of any sides that can be grouped, from the middle of one table of positions; the code takes squares",
        "padding words may be masked, the mask being split like the words; the code attends to padding, the default",
        "times are drawn from the whole of [0, 1]; the code draws one of a thousand",
        "the layer that is aligned is named; the code always takes the first group's last",
        "several targets of alignment add up; in the code the last one overwrites the others",
        "the table of positions is made anew and not stored; official checkpoints hold it, and it is compared",
        "on trained models subregions are a mask and take any length; the text's groups are those of its own places",
    ),
)


@system("e_mmdit", paper=PAPER, kind="architecture", seam="model", hosts=("torch",))
@dataclass(frozen=True, kw_only=True)
class EMMDiTModel:
    """Few tokens, attention in subregions, and modulation by one linear layer and small tables.

    size         512px, 1024px or tiny
    subregions   attention in groups; without: full attention in every block
    compress     the middle group works on fewer tokens
    reinforce    add the positions again after it
    modulation   "affine"; "single" or "zero" for comparison
    """

    name: ClassVar[str] = "e_mmdit"
    size: str = "512px"
    subregions: bool = True
    compress: bool = True
    reinforce: bool = True
    modulation: Kind = "affine"

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"size='{self.size}' is unknown; choose one of {', '.join(SIZES)}")
        _ = self.config

    @property
    def config(self) -> EMMDiTConfig:
        """The published size, changed."""
        base = SIZES[self.size]
        return replace(
            base,
            patterns=base.patterns if self.subregions else FULL,
            compress=self.compress,
            reinforce=self.reinforce,
            modulation=self.modulation,
        )

    def build(self) -> EMMDiT:
        """A fresh model."""
        return EMMDiT(self.config)


@dataclass(frozen=True)
class SameSubregion(Mask):
    """Tokens see those of their own group in every segment; tokens that are neither picture nor text are not named."""

    regions: int
    run: int

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return self._table(layout_q, layout_k).rule(layout_q, layout_k, device)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return self._table(layout_q, layout_k).coarse(layout_q, layout_k, device)

    def _table(self, layout_q: Layout, layout_k: Layout) -> Table:
        q, k = (torch.cat([self._label(part) for part in each.segments]) for each in (layout_q, layout_k))
        return Table(q, k, torch.eye(self.regions, dtype=torch.bool))

    def _label(self, part: Segment) -> Int[Tensor, " n"]:
        if part.kind not in ("text", "image"):
            return torch.full((part.n,), -1)
        return group_of(part.n, self.regions, self.run)


@system("subregions", paper=PAPER, kind="static sparse mask", seam="call", hosts=("flux", "sd3", "qwen_image"))
@dataclass(frozen=True, kw_only=True)
class Subregions:
    """Attention of a trained model in subregions, other ones from block to block.

    patterns   (regions, run) of the model's sites in turn; one region is full attention
    where      sites, heads and share of the steps; cross-attention is never touched
    """

    patterns: tuple[Pattern, ...] = ALTERNATING
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        if not self.patterns:
            raise ValueError("patterns=() names no (regions, run); give ((1, 1),) for full attention")
        for pattern in self.patterns:
            check_pattern(*pattern)

    @property
    def name(self) -> str:
        return "subregions"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        regions, run = self.patterns[site.index % len(self.patterns)]
        if regions == 1 or site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        mask = SameSubregion(regions, run)
        return (mask if self.where.heads is None else OnHeads(mask, self.where.heads, site.heads),)
