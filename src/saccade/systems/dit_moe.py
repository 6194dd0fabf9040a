"""DiT-MoE, experts in a diffusion transformer (2024), an architecture: `nn.moe`, `models.dit_moe`.

    paper                          here
    MoE                            nn.moe.MoE, ffn "moe": router, experts, shared
    E, K, n_s                      experts, top, shared
    W_g                            router.gate; raw probabilities are the weights unless norm_topk
    expert, shared expert          nn.experts.Experts, stacked, of 4 d inside; nn.experts.Expert, of n_s d
    L_bal, alpha                   nn.routing.balance, balance; returned by the model, never injected
    e                              moe_every
    upcycle                        models.upcycling.upcycle
    heat maps of routing           analysis.routing, analysis.usage_plot

For experts in diffusers' models see `models.host_experts`. Source: the paper and its code, feizc/DiT-MoE.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.core.registry import Paper, system
from saccade.models.dit_moe import DiTMoE, DiTMoEConfig

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
        "the loss of balance is returned and added by the trainer: gradients are those of what is minimised, also with "
        "scaled or accumulated losses",
        "one path for training and use, differentiable in both; the released one for use has no gradients",
        "q and k stay in the model's precision after their norms; the released fused path halves theirs",
        "norm_topk, kinds of experts, padding and soft routing are extensions; upcycling turns norm_topk on unless "
        "told otherwise, so that the model begins as its parent",
        "a shared expert that an upcycled parent lacks starts by adding 0, not at random",
        "the balance is 0.01 by default, as in the code; the paper's is 0.005",
        "at t = 0 DDPM's loss has the exact normal CDF and end bins from 0.99608 on; the code has a tanh and 0.999: "
        "Ddpm(compat='official')",
    ),
)


@system("dit_moe", paper=PAPER, kind="architecture", seam="model", hosts=("torch",))
@dataclass(frozen=True, kw_only=True)
class DiTMoEModel:
    """A diffusion transformer whose feed-forwards are experts: a few for each token, one shared by all.

    size       S/2-8E2A, S/2-16E2A, B/2-8E2A, L/2-8E2A, XL/2-8E2A or G/2-16E2A
    experts    of a block; None: as the size says
    top        of them serve a token; None: as the size says
    shared     hidden channels of the shared expert, in widths; None: as the size says
    norm_topk  weights of the chosen sum to one
    balance    weight of the loss that evens out the load
    side       of the latent
    channels   of the latent
    classes    of the labels
    """

    name: ClassVar[str] = "dit_moe"
    size: str = "S/2-8E2A"
    experts: int | None = None
    top: int | None = None
    shared: int | None = None
    norm_topk: bool = False
    balance: float = 0.01
    side: int = 32
    channels: int = 4
    classes: int = 1000

    def __post_init__(self) -> None:
        if self.size not in DiTMoE.sizes:
            raise ValueError(f"size='{self.size}' is unknown; choose one of {', '.join(DiTMoE.sizes)}")
        _ = self.config

    @property
    def config(self) -> DiTMoEConfig:
        """The published size, changed."""
        asked = {name: getattr(self, name) for name in ("experts", "top", "shared")}
        changed = {name: value for name, value in asked.items() if value is not None}
        latent = {name: getattr(self, name) for name in ("side", "channels", "classes")}
        size: DiTMoEConfig = DiTMoE.sizes[self.size]
        return replace(size, norm_topk=self.norm_topk, balance=self.balance, **latent, **changed)

    def build(self) -> DiTMoE:
        """A fresh model."""
        return DiTMoE(self.config)
