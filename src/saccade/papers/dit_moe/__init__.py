"""DiT-MoE, experts in a diffusion transformer (2024), an architecture: `nn.moe`, `model`.

    paper                          here
    MoE                            nn.moe.MoE, ffn "moe": router, experts, shared
    E, K, n_s                      experts, top, shared
    W_g                            router.gate; raw probabilities are the weights unless norm_topk
    expert, shared expert          nn.experts.Experts, stacked, of 4 d inside; nn.experts.Expert, of n_s d
    L_bal, alpha                   nn.routing.balance, balance; returned by the model, never injected
    e                              moe_every
    upcycle                        upcycling.upcycle
    heat maps of routing           analysis.routing, analysis.usage_plot

For experts in diffusers' models see `host_experts`. Source: the paper and its code, feizc/DiT-MoE.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Preset
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.dit_moe.model import DiTMoE as DiTMoE
    from saccade.papers.dit_moe.model import DiTMoEConfig as DiTMoEConfig
    from saccade.papers.dit_moe.upcycling import upcycle as upcycle

PAPER = Paper(
    title="Scaling Diffusion Transformers to 16 Billion Parameters",
    year=2024,
    arxiv="2407.11633",
    bibtex="""@article{fei2024scaling,
  title   = {Scaling Diffusion Transformers to 16 Billion Parameters},
  author  = {Fei, Zhengcong and Fan, Mingyuan and Yu, Changqian and Li, Debang and Huang, Junshi},
  journal = {arXiv preprint arXiv:2407.11633},
  year    = {2024}
}""",
    claims=(
        "ImageNet 256, with guidance: FID 1.72 (XL/2-8E2A, 1.5B of 4.1B parameters at work) against 2.27 of DiT-XL/2",
        "ImageNet 512: FID 2.30 (XL/2-8E2A), 1.80 (G/2-16E2A, 3.1B of 16.5B parameters at work)",
        "a shared expert helps at equal active parameters; experts in the deep half do better than in the shallow half",
        "which expert serves depends on place and step, not on the class; most in the first 50 of 250 steps",
    ),
    deviations=(
        "the load-balancing loss is returned and added by the trainer: gradients are those of what is minimised, also "
        "with scaled or accumulated losses",
        "one path for training and use, differentiable in both; the released one for use has no gradients",
        "q and k stay in the model's precision after their norms; the released fused path halves theirs",
        "norm_topk, kinds of experts, padding and soft routing are extensions; upcycling turns norm_topk on unless "
        "set otherwise, so that the model begins as its parent",
        "a shared expert that an upcycled parent lacks starts by adding 0, not at random",
        "the balance is 0.01 by default, as in the code; the paper's is 0.005",
        "at t = 0 DDPM's loss has the exact normal CDF and end bins from 0.99608 on; the code has a tanh and 0.999: "
        "Ddpm(compat='official')",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(name="dit_moe", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:DiTMoE"),
    ),
    models=("model",),
    presets={
        "dit-moe": Preset(
            architecture="DiTMoE",
            about="Four experts a block, two at work, and one shared.",
            options={"experts": 4, "hidden": 128},
        )
    },
    comparison={"dit_moe": 'DiT(ffn="moe(experts=8, top=2, shared=2)")'},
)
__getattr__, __dir__ = lazily(__name__)
