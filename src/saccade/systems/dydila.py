"""DyDiLA, dynamic differential linear attention (2026), an architecture: `nn.differential_linear`, `models.DyDiLiT`.

    paper                        here
    W_Q0, W_K0, W_V0             qkv, without bias
    R_QP, R_KP, W_Q^u, W_K^v     redundant_q, redundant_k: a router and a bank each, n_P = projectors
    phi_g, R_K, gamma, n_K       measure_q ...: focused features, router, exponents
    lambda^Q, lambda^K, n_D      factor_q, factor_k over one bank, factors
    Qd (Kd^T V)                  ops.linear.normalised
    DWC(V)                       local

Source: the abstract, an opening part quoted in a public review, and a third party's code that states it follows the
paper; no official code was found. What those leave open is listed under "where ours differs".
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.core.registry import Paper, system
from saccade.models.dydi_lit import DyDiLiT

TITLE = (
    "Dynamic Differential Linear Attention: Enhancing Linear Diffusion Transformer for High-Quality Image Generation"
)
PAPER = Paper(
    title=TITLE,
    year=2026,
    arxiv="2601.13683",
    bibtex="""@article{dydila2026,
  title   = {Dynamic Differential Linear Attention: Enhancing Linear Diffusion Transformer for High-Quality Image
             Generation},
  journal = {arXiv preprint arXiv:2601.13683},
  year    = {2026}
}""",
    claims=(
        "linear attention smears over many tokens; three choices of each token sharpen it at linear cost",
        "better than linear and other diffusion transformers on ImageNet; no figures were available to us",
    ),
    deviations=(
        "normaliser: rows of the undifferenced map, which cannot vanish; the paper's is unknown",
        "relu plus 1e-6, routers of exponents blind to gradients, exponents kept in [1, 16]",
        "features by head, not over all channels before the split",
        "local term: 5 x 5, one filter a channel, with bias; feed-forward: gated convolution of ratio 4",
        "sizes are DiT's, heads of 64 channels; no balance loss, as in the sources",
    ),
)


@system("dydila", paper=PAPER, kind="architecture", seam="model", hosts=("torch",))
@dataclass(frozen=True, kw_only=True)
class DyDiLA:
    """Linear attention with a projector, an exponent and a difference chosen by each token.

    size         S/2, B/2, L/2 or XL/2
    projectors   how many a token's redundant q and k choose from
    exponents    how many powers a vector chooses from
    factors      how many weights of the difference a token chooses from
    classes      of the labels
    """

    name: ClassVar[str] = "dydila"
    size: str = "S/2"
    projectors: int = 3
    exponents: int = 9
    factors: int = 9
    classes: int = 1000

    def __post_init__(self) -> None:
        for option in ("projectors", "exponents", "factors", "classes"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option}={getattr(self, option)} must be at least 1")
        if self.size not in DyDiLiT.sizes:
            raise ValueError(f"size='{self.size}' is unknown; choose one of {', '.join(DyDiLiT.sizes)}")

    @property
    def mixer(self) -> str:
        """As a configuration of any DiT names it."""
        return f"dydila(projectors={self.projectors}, exponents={self.exponents}, factors={self.factors})"

    def build(self) -> DyDiLiT:
        """A fresh model."""
        return DyDiLiT(replace(DyDiLiT.sizes[self.size], mixer=self.mixer, classes=self.classes))
