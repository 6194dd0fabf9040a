"""Smoothing a classifier against the worst small change of attention scores, without labels (Attention VAT, iVAT).

D(r) = KL(p^(. | a~) || p(. | a~ + r)) -> `divergence`    p^ without gradient
u, xi, K -> `power_iterations` from a random direction, `xi`, `steps`
r_VAT = eps u -> AttentionVAT.perturbation
L_VAT, lambda -> "virtual" of `losses`, `lam`             mean over labelled and unlabelled sentences
iVAT -> kind="ivat", `basis_norm`                         along differences between scores, see `nn.score_basis`
AUPRC, precision@k, IOU-F1 -> metrics.explanations        agreement with words people marked
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.attention_vat.kl import divergence as divergence
    from saccade.papers.attention_vat.method import AttentionVAT as AttentionVAT

PAPER = Paper(
    title="Making Attention Mechanisms More Robust and Interpretable with Virtual Adversarial Training",
    year=2022,
    arxiv="2104.08763",
    bibtex="""@article{kitada2022making,
  title   = {Making Attention Mechanisms More Robust and Interpretable with Virtual Adversarial Training},
  author  = {Kitada, Shunsuke and Iyatomi, Hitoshi},
  journal = {Applied Intelligence},
  year    = {2022},
  note    = {arXiv:2104.08763}
}""",
    claims=(
        "better prediction than adversarial training of attention and than virtual adversarial training of words, on "
        "six data sets",
        "attention agrees more with what people mark as evidence",
        "unlabelled text helps, more of it more, also from another source than the task's",
        "no number and no formula was available to us beyond the abstract",
    ),
    deviations=(
        "formulas are those of virtual adversarial training (Miyato et al.) applied to scores, as the paper names it",
        "iVAT with differences normed word by word is VAT from another random start; basis_norm='sentence' is the "
        "default, 'word' and 'batch' are there",
        "the random start of iVAT is drawn along the differences, since no other part of it moves anything",
        "xi is 0.01: with 1e-6, as published for words, divergences vanish in single precision",
        "no entropy term unless entmin is above 0",
        "model, data and optimiser as of attention_at, whose deviations hold here",
        "in transformers each softmax row is a sentence of its own for differences; the norm is over all of a sample",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="attention_vat",
            paper=PAPER,
            kind="virtual adversarial training of scores",
            seam="call",
            hosts=("text",),
            make="method:AttentionVAT",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
