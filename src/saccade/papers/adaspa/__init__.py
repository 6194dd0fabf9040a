"""Sparse attention for video: blocks of keys found by their exact mass, per head, refreshed by a kept lse (AdaSpa).

s -> sparsity              share of the key blocks left out for each block of queries
B -> block                 tokens
T_s, t_w -> searches       shares of the run after which blocks are searched; the first ends the dense warm-up
LSE -> "lse" in memory     (b h n) of the first search, in float32 or finer
W -> `block_mass`          (b h nb nb), sums of exp(score - lse) over pairs of blocks
recall -> `recall`         share of W inside a mask, per head
M -> `BlockGrid`           (b h nb nb), kept per site, one branch of guidance apart from another
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.adaspa.system import AdaSpa as AdaSpa

PAPER = Paper(
    title="Training-free and Adaptive Sparse Attention for Efficient Long Video Generation",
    year=2025,
    arxiv="2502.21079",
    bibtex="""@inproceedings{xia2025adaspa,
  title     = {Training-free and Adaptive Sparse Attention for Efficient Long Video Generation},
  author    = {Xia, Yifei and Ling, Suhan and Fu, Fangcheng and Wang, Yujie and Li, Huixia and Xiao, Xuefeng and
               Cui, Bin},
  booktitle = {International Conference on Computer Vision},
  year      = {2025}
}""",
    claims=(
        "HunyuanVideo, 8 s at 720p, 50 steps, one A100: 1.78x faster than dense attention, PSNR 29.07 to its video",
        "without head-adaptive sparsity PSNR 28.51 at 1.76x, without the kept lse 28.97 at 1.71x",
        "CogVideoX1.5-5B, 10 s: 1.66x, PSNR 23.25",
        "sparsity 0.9, searches at steps 0 and 30: 2.01x for 2 s of video, 4.01x for 24 s",
        "the searches take less than 5 % of the time of dense attention",
    ),
    deviations=(
        "no official code was found: what the paper leaves open is decided here and listed",
        "searches are shares of the run, (0.2, 0.6) for steps 10 and 30 of 50, counted from 1: 9 and 29 from 0",
        "searches before the step at which a model begins become one, dense, in that step; a first search in the last "
        "step is left out, since no step would use it",
        "1 - s of the blocks is rounded to the nearest number, halves up, and at least 1",
        "blocks with a text token are kept in addition to that number and count in no share of it; recall counts them",
        "where more than half of the heads exceed the recall, the best half becomes sparser and the other half denser",
        "padding is never attended to and counts in no mass, and each batch row chooses among its own blocks",
        "rows of guidance are independent",
        "a mask takes a byte for each pair of blocks; dense attention with its lse and the mass are two calls, not one",
        "where another system's mask is in force each block of queries also keeps its own block, so that no query is "
        "left without a key",
        "scores more than 64 above the kept lse count as 64, so that no mass is infinite",
        "queries=k measures k queries of each block in the place of all: an extension",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="adaspa",
            paper=PAPER,
            kind="searched block pattern",
            seam="call",
            hosts=("grid",),
            make="system:AdaSpa",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
