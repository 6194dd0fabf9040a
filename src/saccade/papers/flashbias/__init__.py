"""Attention with a bias at nearly the price of attention without one (FlashBias).

b -> prior                       the bias as a `Prior`: a formula, a learned table, their sums and products
Phi_q, Phi_k, R -> phi_q, phi_k, rank      columns that the kernel appends to q and k
s = C^-1/2 -> scale              belongs to the call, which applies it once
0.995 -> energy                  share of a table's squared norm that its factors keep; 16 -> max_rank
f(i, j), m_h -> Alibi, slopes    slope (j - i): never positive for keys before the query
f = |x_i - y_j|^2 -> SpatialDistance       alpha_i -> LearnedDistance, per token and head
MLP_q, MLP_k -> FactorStudents   factors of a bias computed from data
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.ops.factored_attention import attention_with_factors as attention_with_factors
    from saccade.ops.svd_factors import Factors as Factors
    from saccade.papers.flashbias.bias_table import BiasTable as BiasTable
    from saccade.papers.flashbias.factored_bias import FactoredBias as FactoredBias
    from saccade.papers.flashbias.learned_distance import LearnedDistance as LearnedDistance
    from saccade.papers.flashbias.place_priors import Alibi as Alibi
    from saccade.papers.flashbias.place_priors import Cosine as Cosine
    from saccade.papers.flashbias.place_priors import Polynomial as Polynomial
    from saccade.papers.flashbias.place_priors import SegmentBias as SegmentBias
    from saccade.papers.flashbias.place_priors import SpatialDistance as SpatialDistance
    from saccade.papers.flashbias.system import FlashBias as FlashBias
    from saccade.papers.flashbias.system import factorize as factorize

PAPER = Paper(
    title="FlashBias: Fast Computation of Attention with Bias",
    year=2025,
    arxiv="2505.12044",
    bibtex="""@inproceedings{wu2025flashbias,
  title     = {FlashBias: Fast Computation of Attention with Bias},
  author    = {Wu, Haixu and Guo, Minghao and Ma, Yuezhou and Sun, Yuanxu and Wang, Jianmin and Matusik, Wojciech and
               Long, Mingsheng},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025}
}""",
    claims=(
        "1.5x faster AlphaFold 3 Pairformer, over 2x faster vision and language models, no loss of accuracy",
        "SwinV2-B 384 on an A100: 0.473 -> 0.190 s per batch of 64, top-1 87.144 -> 87.186",
        "memory of the bias O((N + M) R) instead of O(N M)",
    ),
    deviations=(
        "ALiBi has the sign of the ALiBi paper, slope (j - i); the sign printed here is Alibi(compat='official')",
        "tables lose their row means before the energy rule, and carry them in one exact column; means='mix' is the "
        "published rule, which takes an all-positive table for rank one",
        "text and appended keys have a bias of exactly zero, so row constants are kept unless form='keys' is asked for",
        "columns that bfloat16 would round visibly are split in two",
        "v is padded to the width of q and k where a fused kernel wants equal widths",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="flashbias",
            paper=PAPER,
            kind="additive bias as low-rank factors",
            seam="call",
            hosts=("grid", "text"),
            make="system:FlashBias",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
