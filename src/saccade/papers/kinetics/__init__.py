"""What text costs when reading the cache counts, and attention that reads less of it, token by token (Kinetics).

P, L, H, G, d -> Shape.parameters, layers, heads, kv_heads, head_dim    `shape_of(config)` reads any transformers config
Lin, Lout, N -> Use.prompt, generated, trials
I -> intensity                          FLOPs a byte costs; eFLOPs = C_comp + I C_mem is `Cost.equivalent(intensity)`
B, l, (s, k) -> Budget.top, local, block    keys of the middle, newest keys, size of the blocks they are chosen in
S -> `touched`                          pairs of the whole generation
coverage -> `pass_at`                   share of questions with a right answer among k of n trials
local, block top-k ... -> `SparseDecode(method=...)`
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.kinetics.axes import best_of as best_of
    from saccade.papers.kinetics.axes import block_budget as block_budget
    from saccade.papers.kinetics.axes import cut_short as cut_short
    from saccade.papers.kinetics.cost import B200 as B200
    from saccade.papers.kinetics.cost import Budget as Budget
    from saccade.papers.kinetics.cost import Cost as Cost
    from saccade.papers.kinetics.cost import Use as Use
    from saccade.papers.kinetics.cost import cost_of as cost_of
    from saccade.papers.kinetics.cost import crossover as crossover
    from saccade.papers.kinetics.cost import touched as touched
    from saccade.papers.kinetics.coverage import graded as graded
    from saccade.papers.kinetics.coverage import pass_at as pass_at
    from saccade.papers.kinetics.frontier import Frontier as Frontier
    from saccade.papers.kinetics.frontier import best_fixed as best_fixed
    from saccade.papers.kinetics.frontier import best_per_question as best_per_question
    from saccade.papers.kinetics.paged_cache import PagedCache as PagedCache
    from saccade.papers.kinetics.sampling import Sampling as Sampling
    from saccade.papers.kinetics.selection import Selection as Selection
    from saccade.papers.kinetics.shapes import QWEN3 as QWEN3
    from saccade.papers.kinetics.shapes import Shape as Shape
    from saccade.papers.kinetics.shapes import shape_of as shape_of
    from saccade.papers.kinetics.system import SparseDecode as SparseDecode

PAPER = Paper(
    title="Kinetics: Rethinking Test-Time Scaling Laws",
    year=2025,
    arxiv="2506.05333",
    bibtex="""@inproceedings{sadhukhan2025kinetics,
  title     = {Kinetics: Rethinking Test-Time Scaling Laws},
  author    = {Sadhukhan, Ranajoy and Chen, Zhuoming and Zheng, Haizhong and Zhou, Yang and Strubell, Emma and
               Chen, Beidi},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025}
}""",
    claims=(
        "reading the cache dominates the cost of long generations: below some 14B parameters it pays to take a larger "
        "model rather than a longer text",
        "sparse attention gains over 60 points of accuracy at low cost and over 5 at high cost (AIME)",
        "at an accuracy of .72 the choice by FLOPs alone costs three times as much (AIME24, Qwen3)",
    ),
    deviations=(
        "the released sum for a top-k budget adds half a square where it must be subtracted; compat='official' does so",
        "a budget beyond the text costs what the dense text costs; the printed sum is meant for shorter ones",
        "of latent attention the latent is read once for keys and values; the paper has no such models",
        "importance-corrected sampling counts a key as often as it was drawn; the released code merges draws: "
        "compat='official'",
        "of equal scores the earlier key is kept; torch's choice among them is not specified",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="kinetics",
            paper=PAPER,
            kind="sparse attention in decoding",
            seam="call",
            hosts=("text",),
            make="system:SparseDecode",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
