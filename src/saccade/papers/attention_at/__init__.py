"""Training against the worst small change of attention scores, for attention that explains (Attention AT, iAT).

a~, a -> scores, weights          before and after the masked softmax, one vector for each sentence
r_AT = eps g / |g| -> AttentionAT, kind="at"      g: gradient of the loss with respect to what is added to the scores
d_t, D_t, r(alpha) -> kind="iat", `basis_norm`    differences of a score to all others; see `nn.score_basis`
eps (xi of the code), lambda -> eps, lam
L, L_AT -> "clean", "adversarial" of `losses`
u_t -> metrics.explanations       gradient importance, its correlation with attention
base models -> models.TextClassifier, models.PairClassifier; transformers by `attach`
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.attention_at.method import AttentionAT as AttentionAT

PAPER = Paper(
    title="Attention Meets Perturbations: Robust and Interpretable Attention with Adversarial Training",
    year=2021,
    arxiv="2009.12064",
    bibtex="""@article{kitada2021attention,
  title   = {Attention Meets Perturbations: Robust and Interpretable Attention with Adversarial Training},
  author  = {Kitada, Shunsuke and Iyatomi, Hitoshi},
  journal = {IEEE Access},
  year    = {2021},
  note    = {arXiv:2009.12064}
}""",
    claims=(
        "attention trained against perturbations of its scores classifies better than plain attention, than random "
        "perturbations and than perturbations of words, on nine of ten tasks",
        "its weights correlate more with the importance of words by gradient, on all of them",
        "results hardly depend on the size of the perturbation",
        "no number was available to us",
    ),
    deviations=(
        "iAT by the text, with differences normed word by word, equals AT exactly; basis_norm='sentence', our default, "
        "keeps the sizes of differences and moves most what differs most; 'word' and 'batch' are there",
        "kind='released_iat' is the released step: the gradient alone, with the sign that lowers the loss",
        "the released forward leaves a backward of the clean loss in the gradients, which then counts twice; "
        "compat='official' does so",
        "dropout is the same in the clean, the inner and the adversarial pass; share_dropout=False is the released way",
        "AdamW without amsgrad at one rate, no early stopping; sentences of a batch are drawn by noisy length, with "
        "replacement between batches",
        "word_at and word_iat after Miyato et al. and Sato et al. need a model with normed=True to be theirs",
        "in transformers each softmax row is a sentence of its own for differences; the norm is over all of a sample",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="attention_at",
            paper=PAPER,
            kind="adversarial training of scores",
            seam="call",
            hosts=("text",),
            make="method:AttentionAT",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
