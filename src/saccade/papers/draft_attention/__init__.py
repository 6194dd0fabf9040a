"""Sparse attention for videos, chosen anew in every call by a map at low resolution (DraftAttention).

1 - r -> sparsity        share of the pairs of regions that is dropped, by head
(ph, pw) -> pool         tokens of a region: rows and columns of a frame
q~, k~ -> `pool_patches` means of the final queries and keys of each region
A -> `draft_map`         (b h g g), softmax(q~ k~^T scale), g regions of all frames
m -> int(sparsity g^2)   values dropped; threshold: the m-th smallest, and all that reach it stay
M -> `RegionGrid`        verdicts between regions, text and other tokens open on both sides
pi -> `Partition`        tokens by region; kernels sort by it
first 25 % -> skip       dense steps; the released code's timesteps -> dense_above, its layers -> dense_layers
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.draft_attention.system import DraftAttention as DraftAttention

PAPER = Paper(
    title="DraftAttention: Fast Video Diffusion via Low-Resolution Attention Guidance",
    year=2025,
    arxiv="2505.14708",
    bibtex="""@article{shen2025draftattention,
  title   = {{DraftAttention}: Fast Video Diffusion via Low-Resolution Attention Guidance},
  author  = {Shen, Xuan and Han, Chenxia and Zhou, Yufa and Xie, Yanyue and Gong, Yifan and Wang, Quanyi and
             Wang, Yiwei and Wang, Yanzhi and Zhao, Pu and Gu, Jiuxiang},
  journal = {arXiv preprint arXiv:2505.14708},
  year    = {2025}
}""",
    claims=(
        "HunyuanVideo at 768p, H100: 1.75x faster end to end at 90 % sparsity, PSNR to dense 24.2 dB; 1.31x at 60 %, "
        "32.1 dB",
        "Wan2.1 at 768p, 75 % sparsity: 1.42x faster, PSNR 27.2 dB to dense, 23.6 dB with Sparse VideoGen",
        "VBench stays within about half a point of dense",
        "average pooling is far better than max pooling",
    ),
    deviations=(
        "a region that would lose all its keys keeps its best one; the official code has no such guard and its kernel "
        "then returns nothing: compat='official', which is an error here where a query is left without a key",
        "grids need not be multiples of a patch: regions at the border are smaller and pool real tokens only; "
        "strict=True refuses them, as the official code does",
        "patches of any size; the official kernel takes 128 tokens, which strict=True asks for too",
        "the draft is computed in float32 at least",
        "text may stand first, last or be absent; padded text is never attended to",
        "every batch row has a map of its own, as in the official variant for guidance",
        "where another system's mask is in force each region also keeps itself, so that no query is left without a key",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="draft_attention",
            paper=PAPER,
            kind="block pattern chosen in every call",
            seam="call",
            hosts=("grid",),
            make="system:DraftAttention",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
