"""Mixture of blocks for video: per head, the strongest pairs of a query and a block of keys are attended (VMoBA).

l mod 3 -> cycle          layers in turn divide a video in time, in space and in both: `frames`, `tile`, `box`
ct | ch, cw | ct, ch, cw -> frames | tile | box     sizes of a block, in latent frames and tokens
b_c, g -> `mean_keys`, `gates`                      means of keys, and their raw products with queries
tau -> tau                share of the summed gates that is kept    k -> k    blocks for each query, its own among them
select_mode, threshold_type -> select, scope        which pairs compete: those of a head, a query, a block, or all
o_s, o_m -> the attend of the call over each token's own block, and `ops.attend_chosen` over the blocks chosen besides
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.vmoba.system import VMoBA as VMoBA

PAPER = Paper(
    title="VMoBA: Mixture-of-Block Attention for Video Diffusion Models",
    year=2025,
    arxiv="2506.23858",
    bibtex="""@article{wu2025vmoba,
  title   = {{VMoBA}: Mixture-of-Block Attention for Video Diffusion Models},
  author  = {Wu, Jianzong and Hou, Liang and Yang, Haotian and Tao, Xin and Tian, Ye and Wan, Pengfei and Zhang, Di
             and Tong, Yunhai},
  journal = {arXiv preprint arXiv:2506.23858},
  year    = {2025}
}""",
    claims=(
        "training Wan2.1-1.3B at 93x576x1024, 55k tokens: 2.83x fewer FLOPs, 1.48x faster, 0.19 of the pairs kept, "
        "VBench mean 68.34 against 68.25",
        "training-free at 81x720x1280, 76k tokens: 2.40x fewer FLOPs, 1.35x faster",
        "shorter videos gain nothing: 1.00x at 33k tokens, 0.86x at 13k",
    ),
    deviations=(
        "pairs are selected sample by sample; the official code pools packed samples, so that a sample's mask depends "
        "on its batch mates",
        "k=1, or no pair chosen besides, attends to each token's own block; the official code then runs dense",
        "tokens always keep their own block, as in the released code; forced_own=False is the paper's Eq. 4, where a "
        "query left without any block keeps its own",
        "a threshold always adds at least one pair to a head, as the released code does",
        "gates that are all equal count alike, so that a share tau of them is kept",
        "topk by block, which the released code lacks: own pairs and a share (k - 1) / (C - 1) of the others",
        "text in the sequence is seen by all and sees all: an extension",
        "pictures of one frame are divided by tile alone: an extension",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="vmoba", paper=PAPER, kind="chosen blocks of keys", seam="call", hosts=("grid",), make="system:VMoBA"
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
