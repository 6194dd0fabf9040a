"""DyDiLA, dynamic differential linear attention (2026), an architecture: `differential_linear`, `models.DyDiLiT`.

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

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Preset
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.dydila.model import DyDiLiT as DyDiLiT

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
OFFERS = Offers(
    entries=(
        Entry(name="dydila", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:DyDiLiT"),
    ),
    models=("model",),
    parts=("differential_linear",),
    presets={"dydi-lit": Preset(architecture="DyDiLiT", about="Linear attention and gated convolutions.")},
    comparison={"dydila": 'DiT(mixer="dydila", ffn="gated_conv")'},
)
__getattr__, __dir__ = lazily(__name__)
