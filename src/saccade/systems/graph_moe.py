"""Graph-of-tokens routing of experts (2025), an architecture: `nn.token_graph`, feed-forwards of any DiT or `RoutedLM`.

    paper                          here
    e_i = softmax(W_e u_i)         nn.moe.TopKRouter, the router of one token alone
    S_ij, W_s, tau                 nn.token_graph.Similarity, `tau`; feed-forward "similar_moe"
    A'_h, sigma, h*                posterior, `sigma`, `heads="min_entropy"`; feed-forward "attention_moe"
    p = S e                        nn.token_graph.Mean
    J_i                            restrict=True
    K, M                           experts, top
    fluctuation, decision entropy  analysis.fluctuation

Source: the abstract, and definitions restated in public reviews of the earlier "Mutual-Inform SMoE"; no code was found.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from saccade.core.checks import check_word
from saccade.core.registry import Paper, system
from saccade.models.dit import DiT

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
        "outputs and values are compared in each head unless told otherwise; the balance loss is of the final p",
        "the map is computed again from q and k, so any kernel may run the attention itself",
        "keys are not sparsified and no cache is kept for decoding: sequences are routed whole",
    ),
)


@system("graph_moe", paper=PAPER, kind="router", seam="model", hosts=("torch",))
@dataclass(frozen=True, kw_only=True)
class GraphMoE:
    """Experts chosen by a token together with the tokens it resembles or attends to.

    by        "similarity" of what enters the feed-forward, or the block's own "attention"
    experts   how many
    top       how many of them serve a token
    tau       temperature of the similarity
    sigma     width of the Gaussian around an attention's output
    size      of the DiT that is built
    classes   of the labels
    """

    name: ClassVar[str] = "graph_moe"
    by: Literal["similarity", "attention"] = "similarity"
    experts: int = 8
    top: int = 2
    tau: float = 1.0
    sigma: float = 1.0
    size: str = "S/2"
    classes: int = 1000

    def __post_init__(self) -> None:
        check_word(("similarity", "attention"), by=self.by)
        check_word(DiT.sizes, size=self.size)
        if not 1 <= self.top <= self.experts:
            raise ValueError(f"top={self.top} must be between 1 and experts={self.experts}")
        if self.tau <= 0 or self.sigma <= 0:
            raise ValueError(f"tau={self.tau} and sigma={self.sigma} must be above 0")

    @property
    def ffn(self) -> str:
        """As a configuration names it."""
        routed = f"experts={self.experts}, top={self.top}"
        if self.by == "similarity":
            return f"similar_moe({routed}, tau={self.tau})"
        return f"attention_moe({routed}, sigma={self.sigma})"

    @property
    def mixer(self) -> str:
        """One that tells what the feed-forward has to know."""
        return f"attention(tells={self.by == 'attention'})"

    def build(self) -> DiT:
        """A fresh DiT of these parts."""
        return DiT.of(self.size, mixer=self.mixer, ffn=self.ffn, classes=self.classes)
