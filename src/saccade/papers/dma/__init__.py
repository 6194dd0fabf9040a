"""Every query attends to the w keys that score highest, by a trained score made from their values (DMA).

v -> v                 values, the same for scores and outputs; never rotated
dt_proj, A -> `key_bias`, `KeyBias`     delta = softplus(dt_proj v), b = exp(A delta), or b = A delta
m_t, dynamic mask -> `choose_keys`      the w best of what a query may see; as intervals, `Lifetimes`
w, keep_window_size -> window           keys a query keeps
QK^T + b -> `dynamic_mask_attention`    one softmax over the keys kept; three kernels, one result
Doge -> `Doge`, the mixer "dma(...)"    models of one's own; `DMA` is for models that are there already
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.dma.attention import Choice as Choice
    from saccade.papers.dma.attention import dynamic_mask_attention as dynamic_mask_attention
    from saccade.papers.dma.lifetimes import Lifetimes as Lifetimes
    from saccade.papers.dma.lifetimes import key_lifetimes as key_lifetimes
    from saccade.papers.dma.mixer import DynamicMaskAttention as DynamicMaskAttention
    from saccade.papers.dma.model import Doge as Doge
    from saccade.papers.dma.scores import key_bias as key_bias
    from saccade.papers.dma.selection import choose_keys as choose_keys
    from saccade.papers.dma.site_scores import SiteScores as SiteScores
    from saccade.papers.dma.system import DMA as DMA
    from saccade.papers.dma.usage import key_usage as key_usage

PAPER = Paper(
    title="Trainable Dynamic Mask Sparse Attention",
    year=2025,
    arxiv="2508.02124",
    bibtex="""@article{shi2025dma,
  title   = {Trainable Dynamic Mask Sparse Attention},
  author  = {Shi, Jingze and Wu, Yifan and Wu, Bingheng and Peng, Yiran and Wang, Liangdong and Liu, Guang and
             Luo, Yuyu},
  journal = {arXiv preprint arXiv:2508.02124},
  year    = {2025}
}""",
    claims=(
        "lower perplexity than multi-head, sliding-window, multi-head latent and native sparse attention under "
        "Chinchilla-style scaling",
        "better multi-query associative recall; at 1.7B parameters better than multi-head attention on standard "
        "benchmarks and needle in a haystack",
        "kernel on an A100 against dense attention with mask and bias: 10.4x at 4k tokens, 49.8x at 32k with w 1024; "
        "slower below 1k in backward",
    ),
    deviations=(
        "the body of the paper was not available: formulas are the released code's",
        "the score is exp(A delta), the paper's first version; bias_form='linear' is the later code's A delta",
        "keys are chosen after causal order and padding; the released quick start chooses before, so that a choice "
        "depends on later tokens",
        "equal scores go to the more recent key, so that A = 0 is a sliding window; the released code leaves it "
        "open, and in a first layer equal tokens always score alike",
        "runs kept by majority (block_size) are cut by causal order and padding again; compat='official' does not",
        "in causal order the last run, if short, needs as many keys as a whole one, so that decoding keeps what the "
        "whole text keeps; choose_keys by itself counts its own length, as the released code does",
        "with block_size, as released, nothing is chosen up to w tokens and all rows of a longer text are: rows before "
        "the w-th then differ from what they were when written",
        "a query that keeps no key gets 0 and passes no gradient; the released layer averages all values there",
        "scores are computed in float32 at least",
        "keys are known by the interval of queries that keep them, which the released code has no notion of: selection "
        "takes O(n (w + 64)), a block of queries reads w + 64 keys, and a memory forgets what was dropped",
        "A has one number for each key head, as Doge2; the first Doge's, one for each query head, is not read",
        "Doge's mixture of experts is not built",
        "attached to a host, keys that a mask closes are never kept, but block_size and select are not offered",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="dma", paper=PAPER, kind="chosen keys, trained", seam="call", hosts=("text", "llama"),
            make="system:DMA",
        ),
        Entry(name="doge", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:Doge"),
    ),
    models=("model",),
    parts=("mixer",),
    languages={"dma": 'CausalLM(mixer="dma(window=32)")'},  # of the 128 tokens there are
)  # fmt: skip
__getattr__, __dir__ = lazily(__name__)
