"""Take one principle of attention away at a time, in every layer of a language model or in some (DeconAttn).

H -> x, h             a layer's normed input; e -> the text's embeddings; X -> the fixed stream
A, T(x) -> maps       `operators.OPERATORS[..].map`, `taylor.series`
approx, nonapprox, mlp, rnd_emb_qk, fixed_seq_qk, static_emb_qk -> mixers of these names
hybrid, uniform, skip -> layout="even", layout="uniform", `skipped(model)`
indicators            `saccade.metrics.attention_maps`; FLOPs and bytes: `layer_cost`
Models of one's own: `DeconstructedLM`. For Llama, Qwen2, Qwen3 and GPT-2 of transformers: `deconstruct`.
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.deconstructing_attention.costs import layer_cost as layer_cost
    from saccade.papers.deconstructing_attention.hosts import Deconstructed as Deconstructed
    from saccade.papers.deconstructing_attention.hosts import deconstruct as deconstruct
    from saccade.papers.deconstructing_attention.layouts import LAYOUTS as LAYOUTS
    from saccade.papers.deconstructing_attention.layouts import standard_layers as standard_layers
    from saccade.papers.deconstructing_attention.model import DeconstructedLM as DeconstructedLM
    from saccade.papers.deconstructing_attention.model import maps as maps
    from saccade.papers.deconstructing_attention.model import skipped as skipped

PAPER = Paper(
    title="Deconstructing Attention: Investigating Design Principles for Effective Language Modeling",
    year=2025,
    arxiv="2510.11602",
    bibtex="""@article{xue2025deconstructing,
  title   = {Deconstructing Attention: Investigating Design Principles for Effective Language Modeling},
  author  = {Xue, Huiyin and Moosavi, Nafise Sadat and Aletras, Nikolaos},
  journal = {arXiv preprint arXiv:2510.11602},
  year    = {2025}
}""",
    claims=(
        "500M, in every layer, perplexity on WikiText: standard 38.1, approx 47.9, fixed_seq_qk 79.1, static_emb_qk "
        "79.9, rnd_emb_qk 84.8, mlp 993.5, nonapprox 9e4",
        "in every other layer: approx 39.4, nonapprox 39.4, rnd_emb_qk 39.3, fixed_seq_qk 38.5, static_emb_qk 38.7, "
        "mlp 45.8",
        "trained in every other layer and then left out: 2e4 to 2e6",
        "with normalised q and k, 1.7B: standard 27.6; nonapprox 67.3 in every layer, 29.9 in every other",
    ),
    deviations=(
        "no official code could be obtained",
        "approx is the series of the paper's equation 6; what its appendix prints, to which its tables of cost fit, is "
        "reading='per_order', whose divisors are kept away from zero",
        "nonapprox has the factor 1 / sqrt(e) of equation 7, which the paper's recurrent equation leaves out",
        "mlp keeps the output projection behind three square matrices, which fits the paper's table; "
        "keep_out_proj=False has none",
        "the random stream has deviation 0.02, the embeddings of static_emb_qk go through the layer's own norm, and "
        "norms of q in nonapprox come after its silu; the paper does not say",
        "layout 'bottom' follows the paper's table, not its prose",
        "projections have no biases, and qk_norm is a LayerNorm, as in the rest of the kit; hosts keep their own",
        "logits of the published sizes have a matrix of their own; whether the paper's are the embedding's is not said",
        "diversity takes the deviation of a sample over heads; the paper does not say which",
        "a decoded token of rnd_emb_qk and fixed_seq_qk takes one of the stream along, whose keys and values are kept "
        "too, beside those of the paper's table",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="deconstructing_attention",
            paper=PAPER,
            kind="attention without one of its principles",
            seam="model",
            hosts=("text",),
            make="model:DeconstructedLM",
        ),
    ),
    models=("model",),
    parts=("mixers",),
    languages={
        "approx": 'CausalLM(mixer="approx")',
        "nonapprox": 'CausalLM(mixer="nonapprox(qk_norm=True)")',
        "nonapprox_even": 'DeconstructedLM(variant="nonapprox", layout="even")',
        "rnd_emb_qk_even": 'DeconstructedLM(variant="rnd_emb_qk", layout="even")',
        "static_emb_qk_even": 'DeconstructedLM(variant="static_emb_qk", layout="even")',
        "mlp_even": 'DeconstructedLM(variant="mlp", layout="even")',
    },
)
__getattr__, __dir__ = lazily(__name__)
