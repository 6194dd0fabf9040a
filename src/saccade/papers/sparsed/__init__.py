"""Sparse attention for samplers: dense at first, then one block pattern per head, found once and kept (SparseD).

rho, select -> keep        share of the key blocks kept for each block of queries
bs, block_size -> block    tokens
skip -> skip               share of the steps that stay dense
e -> last_dense            the step, from 0, in which the pattern is found
P | G -> generation        the tokens to be generated compete apart from those of the prompt
F -> `BlockGrid`           (b h N/bs N/bs), kept per site, one branch of guidance apart from another
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.sparsed.system import SparseD as SparseD

PAPER = Paper(
    title="SparseD: Sparse Attention for Diffusion Language Models",
    year=2025,
    arxiv="2509.24014",
    bibtex="""@inproceedings{wang2026sparsed,
  title     = {{SparseD}: Sparse Attention for Diffusion Language Models},
  author    = {Wang, Zeqing and Fang, Gongfan and Ma, Xinyin and Yang, Xingyi and Wang, Xinchao},
  booktitle = {International Conference on Learning Representations},
  year      = {2026}
}""",
    claims=(
        "64k tokens, 128 steps, A800: 1.23x faster than FlashAttention on Dream-7B, 1.25x on LLaDA-1.5",
        "1024 steps: 1.50x and 1.48x; no gain below 8k tokens",
        "accuracy within 0.3 points of dense on average over MMLU, GSM8K, HumanEval and RULER at 4k and 8k",
    ),
    deviations=(
        "keep=1 is dense; the official code asks for one block more than there are and fails",
        "padded keys are never attended to, count for no score, and each batch row keeps its own share of its blocks",
        "logits have the call's own scale; LLaDA's code puts the number of heads for their width: compat='official'",
        "rows of guidance are independent; the official LLaDA sampler leaves SparseD out under guidance",
        "a step without a pattern, or with one of another length, is an error; the official code runs dense or fails",
        "lengths need not be multiples of 128",
        "where another system's mask is in force each block of queries also keeps its own block, so that no query is "
        "left without a key",
        "queries=k scores k queries of each block in the place of all: an extension",
        "on images and videos text is the prompt and the grid is what is generated: an extension",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="sparsed",
            paper=PAPER,
            kind="frozen block pattern",
            seam="call",
            hosts=("grid", "llama", "bert", "modern_bert"),
            make="system:SparseD",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
