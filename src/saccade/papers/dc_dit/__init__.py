"""DC-DiT, a DiT on few tokens of many (2026), an architecture: `chunk_stage`, `model`.

    paper                            here
    encoder, decoder, De             conv_residual.ConvStack, narrow
    router p                         keep_routers: "predictability" (second version), "neighbours" (first),
                                     "sequence" (H-Net)
    b_natural, b, rho                chunking: kept, drop_tail, Budget.rho
    W, sigma, plug-back              dechunking: smoothing_map, Dechunk.sigma, nearest_cell, nearest_in_sequence
    ste                              chunking.plug
    L_ratio, N, .03                  chunking.RatioLoss, ratio, ratio_weight
    multi-budget training            multi_budget.MultiBudget; ramp of N: Ramp
    Lite-CFG                         model.lite_guided
    compute-matched steps            cost.matched_steps
    upcycling                        upcycling: upcycled, distillation_loss
Source: the paper in both versions and its code, AMD-AGI/DynamicChunkingDiT; H-Net for the router on sequences.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Preset
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.dc_dit.model import DCDiT as DCDiT
    from saccade.papers.dc_dit.model import DCDiTConfig as DCDiTConfig
    from saccade.papers.dc_dit.upcycling import upcycled as upcycled

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
OFFERS = Offers(
    entries=(
        Entry(name="dc_dit", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:DCDiT"),
    ),
    models=("model",),
    presets={
        "dc-dit": Preset(
            architecture="DCDiT",
            about="A transformer on chunks between two convolutional stages.",
            options={"layout": ("c1", ("D4",), "c1"), "width": 64, "narrow": 32, "ratio_group": None},
        )
    },
    comparison={"dc_dit": 'DCDiT(layout=("c1", ("D4",), "c1"), narrow=32)'},
)
__getattr__, __dir__ = lazily(__name__)
