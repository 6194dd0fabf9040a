"""DC-DiT, a DiT on few tokens of many (2026), an architecture: `nn.chunk_stage`, `models.dc_dit`.

    paper                            here
    encoder, decoder, De             nn.conv_residual.ConvStack, narrow
    router p                         nn.keep_routers: "predictability" (second version), "neighbours" (first),
                                     "sequence" (H-Net)
    b_natural, b, rho                nn.chunking: kept, drop_tail, Budget.rho
    W, sigma, plug-back              nn.dechunking: smoothing_map, Dechunk.sigma, nearest_cell, nearest_in_sequence
    ste                              nn.chunking.plug
    L_ratio, N, .03                  nn.chunking.RatioLoss, ratio, ratio_weight
    multi-budget training            train.multi_budget.MultiBudget; ramp of N: Ramp
    Lite-CFG                         models.dc_dit.lite_guided
    compute-matched steps            models.dc_dit_cost.matched_steps
    upcycling                        models.dc_dit_upcycling: upcycled, distillation_loss
Source: the paper in both versions and its code, AMD-AGI/DynamicChunkingDiT; H-Net for the router on sequences.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.core.registry import Paper, system
from saccade.models.dc_dit import DCDiT, DCDiTConfig
from saccade.nn.dechunking import How
from saccade.nn.keep_routers import SCORES

PAPER = Paper(
    title="DC-DiT: Adaptive Compute and Elastic Inference for Visual Generation via Dynamic Chunking",
    year=2026,
    arxiv="2603.06351",
    bibtex="""@inproceedings{haridas2026dcdit,
  title     = {{DC-DiT}: Adaptive Compute and Elastic Inference for Visual Generation via Dynamic Chunking},
  author    = {Haridas, Akash and Saxena, Utkarsh and Ashrafi Fashi, Parsa and Rezagholizadeh, Mehdi and
               Appia, Vikram and Barsoum, Emad},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2026}
}""",
    claims=(
        "first version, ImageNet 256, 400K steps: B with one token in 4 FID 13.51 (DiT of as many parameters 19.45, of "
        "as many FLOPs 15.78); random tokens 16.69; XL upcycled from DiT 4.97, without distillation 14.55",
        "second version, as long in FLOPs, no guidance: S at rho .2 FID 58.43 (DiT-S/2 68.40), B 33.91 (43.47)",
        "Lite-CFG at 1.25: S 38.99 (54.98), B 18.49 (29.72), 20 to 36 % fewer FLOPs",
        "without multi-budget training 57.77 for 56.73, with the cosine router 57.96, without smoothing 59.79",
    ),
    deviations=(
        "in a stage inside another the first and last token of every picture are kept too, convolutions and norms "
        "leave padding out, and the router is H-Net's: the released one needs a grid, its inner stage mixes pictures",
        "the linear layer around the main network is counted apart: published FLOPs leave it out",
        "attention runs in the model's own precision; mixer='attention(bf16=True)' does as the released code",
        "upcycling: positions of the teacher's patches are read at pixels, and kept tokens are plugged back and "
        "averaged over patches before they are compared; the paper states neither",
        "labels are dropped where a batch is made, not inside the model",
        "at t = 0 DDPM's loss has the exact normal CDF and end bins from 0.99608 on; the code has a tanh and 0.999: "
        "Ddpm(compat='official')",
    ),
)


@system("dc_dit", paper=PAPER, kind="architecture", seam="model", hosts=("torch",))
@dataclass(frozen=True, kw_only=True)
class DynamicChunkingDiT:
    """A DiT whose router keeps the tokens that are worth working on, more where there is more to draw.

    size      S, B, L or XL
    side      of the latent, in pixels; `sigma` is 1 for 32 and 2 for 64
    ratio     tokens for each kept one: 4 costs as patches of 2 x 2 do, 16 as patches of 4 x 4
    router    "predictability", "neighbours" or "sequence"
    dechunk   "smooth", "nearest" or "ema"
    channels  of the picture or latent
    classes   of the labels
    """

    name: ClassVar[str] = "dc_dit"
    size: str = "S"
    side: int = 32
    ratio: float = 4.0
    router: str = "predictability"
    dechunk: How = "smooth"
    channels: int = 4
    classes: int = 1000

    def __post_init__(self) -> None:
        if self.size not in DCDiT.sizes:
            raise ValueError(f"size='{self.size}' is unknown; choose one of {', '.join(DCDiT.sizes)}")
        if self.router not in SCORES:
            raise ValueError(f"router='{self.router}' is unknown; choose one of {', '.join(SCORES)}")
        _ = self.config.stage

    @property
    def config(self) -> DCDiTConfig:
        """The published size, changed."""
        return replace(
            DCDiT.sizes[self.size],
            side=self.side,
            sigma=self.side / 32,
            ratio=self.ratio,
            router=self.router,
            dechunk=self.dechunk,
            channels=self.channels,
            classes=self.classes,
        )

    def build(self) -> DCDiT:
        """A fresh model."""
        return DCDiT(self.config)
