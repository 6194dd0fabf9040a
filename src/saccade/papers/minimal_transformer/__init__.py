"""Leave out the feed-forward and most matrices of attention (the minimal transformer).

    paper                              here
    W_Q W_K^T -> W_QK, W_V W_O dropped  minimal_attention.MinimalAttention, mixer "minimal(kind=...)": "wqk", "wqk_novo"
    symmetric similarity               kinds "symmetric/shared", "symmetric/mirror", "symmetric/cholesky"
    T of W_QK = T T^T                  similarities.Triangle, packed: N (N + 1) / 2 numbers
    collapsing matrices, layers        collapsing.collapse, collapse_model, collapse_stack
    N, d, h                            width, width / heads, ratio of the feed-forward; none: use_mlp=False, ffn "none"
    Q = K M / P                        model.overdetermination(samples, outputs, parameters)

Source: the paper's text without its first tables, and a replication by students,
Abdennacer-Badaoui/Reducing_the_Transformer_Architecture_to_a_Minimum, whose sizes are `MinimalTransformer.sizes`.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.minimal_transformer.collapsing import PlainStack as PlainStack
    from saccade.papers.minimal_transformer.collapsing import collapse as collapse
    from saccade.papers.minimal_transformer.collapsing import collapse_model as collapse_model
    from saccade.papers.minimal_transformer.collapsing import collapse_stack as collapse_stack
    from saccade.papers.minimal_transformer.minimal_attention import MinimalAttention as MinimalAttention
    from saccade.papers.minimal_transformer.model import MinimalTransformer as MinimalTransformer
    from saccade.papers.minimal_transformer.model import MinimalTransformerConfig as MinimalTransformerConfig
    from saccade.papers.minimal_transformer.model import overdetermination as overdetermination

PAPER = Paper(
    title="Reducing the Transformer Architecture to a Minimum",
    year=2024,
    arxiv="2410.13732",
    bibtex="""@inproceedings{bermeitinger2024reducing,
  title     = {Reducing the Transformer Architecture to a Minimum},
  author    = {Bermeitinger, Bernhard and Hrycej, Tomas and Pavone, Massimo and Kath, Julianus
             and Handschuh, Siegfried},
  booktitle = {International Joint Conference on Knowledge Discovery, Knowledge Engineering and Knowledge Management},
  year      = {2024}
}""",
    claims=(
        "up to 90 % of parameters are saved without hurting accuracy on MNIST and CIFAR-10",
        "MNIST: all variants are nearly equal, the smallest slightly worse; CIFAR-10: the full model has the best "
        "training loss and the worst validation loss",
        "a replication with 100 epochs on CIFAR-10 finds 68.2 % with feed-forwards, 57.1 % without, 47.4 % at least",
    ),
    deviations=(
        "kinds with one W_QK have a single head; 'wqk' takes several with allow_multihead=True, and warns",
        "triangles start with spread 1 / sqrt(size): N(0, 1), as in the replication, saturates the softmax",
        "scores are divided by the root of the channels that their product runs over",
        "'symmetric/cholesky_slice', the replication's, compares slices of the tokens themselves, unlike the paper's",
        "blocks without a feed-forward have no second norm; compat='replication' keeps it, unused, and counts it",
        "collapse also carries biases when asked; the paper has none",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="minimal_transformer",
            paper=PAPER,
            kind="architecture",
            seam="model",
            hosts=("torch",),
            make="model:MinimalTransformer",
        ),
    ),
    models=("model",),
    parts=("minimal_attention",),
    comparison={"minimal": 'DiT(mixer="minimal(kind=\'wqk_novo\', heads=1)", ffn="none")'},
)
__getattr__, __dir__ = lazily(__name__)
