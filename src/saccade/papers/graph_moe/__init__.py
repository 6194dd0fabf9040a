"""Graph-of-tokens routing of experts (2025), an architecture: `token_graph`, feed-forwards of any DiT or `RoutedLM`.

    paper                          here
    e_i = softmax(W_e u_i)         nn.moe.TopKRouter, the router of one token alone
    S_ij, W_s, tau                 token_graph.Similarity, `tau`; feed-forward "similar_moe"
    A'_h, sigma, h*                posterior, `sigma`, `heads="min_entropy"`; feed-forward "attention_moe"
    p = S e                        token_graph.Mean
    J_i                            restrict=True
    K, M                           experts, top
    fluctuation, decision entropy  fluctuation

Source: the abstract, and definitions restated in public reviews of the earlier "Mutual-Inform SMoE"; no code was found.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.graph_moe.model import RoutedLM as RoutedLM

PAPER = Paper(
    title="Improving Routing in Sparse Mixture of Experts with Graph of Tokens",
    year=2025,
    arxiv="2505.00792",
    bibtex="""@article{graphoftokens2025,
  title   = {Improving Routing in Sparse Mixture of Experts with Graph of Tokens},
  journal = {arXiv preprint arXiv:2505.00792},
  year    = {2025}
}""",
    claims=(
        "fewer tokens change their experts late in training than under a softmax gate, in every layer",
        "decisions are surer, accuracy and robustness higher, on language and pictures; no table was available to us",
    ),
    deviations=(
        "W begins as the identity over the root of the width, tau is 1, sigma is 1: the sources do not say",
        "outputs and values are compared in each head by default; the balance loss is of the final p",
        "the map is computed again from q and k, so any kernel may run the attention itself",
        "keys are not sparsified and no cache is kept for decoding: sequences are routed whole",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(name="graph_moe", paper=PAPER, kind="router", seam="model", hosts=("torch",), make="model:RoutedLM"),
    ),
    models=("model",),
    parts=("token_graph",),
    comparison={"graph_moe": 'DiT(ffn="similar_moe(experts=8, top=2)")'},
)
__getattr__, __dir__ = lazily(__name__)
