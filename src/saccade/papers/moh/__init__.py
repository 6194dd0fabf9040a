"""Let every token use some of a layer's heads (MoH).

h_s -> shared, K -> routed      as shares of a layer's heads; counts in `head_routing.HeadCounts`
W_r, W_s, W_h -> router, shared_router, side_router      in `head_routing.LearnedGates`; their gates have mean one
L_b, beta -> `head_balance`, `MixtureOfHeads.balance`    returned from forward, never kept on a class
quantised routing -> norm       of the query, with a straight-through gradient
Models of one's own: `MoHDiT`, `to_mixture_of_heads`, the mixer "moh(...)". `MoH` is for models that are there already.
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Preset
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.moh.head_routing import head_balance as head_balance
    from saccade.papers.moh.mixture_of_heads import MixtureOfHeads as MixtureOfHeads
    from saccade.papers.moh.model import MoHDiT as MoHDiT
    from saccade.papers.moh.model import to_mixture_of_heads as to_mixture_of_heads
    from saccade.papers.moh.site_gates import SiteGates as SiteGates
    from saccade.papers.moh.system import MoH as MoH

PAPER = Paper(
    title="MoH: Multi-Head Attention as Mixture-of-Head Attention",
    year=2025,
    arxiv="2410.11842",
    bibtex="""@inproceedings{jin2025moh,
  title     = {{MoH}: Multi-Head Attention as Mixture-of-Head Attention},
  author    = {Jin, Peng and Zhu, Bo and Yuan, Li and Yan, Shuicheng},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}""",
    claims=(
        "ViT-B with 75 % and 50 % of the heads: top-1 84.9 and 84.7, TransNeXt-B 84.8",
        "DiT-XL/2 after 7M steps with 90 % of the heads: FID 9.62 -> 8.56; with guidance 3.22 -> 2.94",
        "LLaMA3-8B tuned on with 75 % of the heads: mean of 14 tasks 61.6 -> 64.0, over 95 % back within 10B tokens",
    ),
    deviations=(
        "gates have mean one, as in the released code; the printed formula lacks the factors h_s, K and 2",
        "equal logits give gates of exactly one, since each softmax is taken over the picks alone",
        "one shared head beside routed ones works; the released class has no weight for it",
        "the load-balancing loss is returned, leaves padding out, and works with several models and checkpointing",
        "norm routing works for any split, one candidate included; its straight-through gradient is ours, the training "
        "code being unreleased",
        "attached, q is taken after rotation, which keeps norms; where a host normalises q, as FLUX and Qwen3 do, "
        "norms hardly differ and the picks say little",
        "attached, all heads are computed and nothing is saved; `execution='gathered'` of the mixer saves queries",
        "the vision transformers are a table of head counts; TransNeXt is not built",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(name="moh", paper=PAPER, kind="mixture of heads", seam="call", hosts=("grid", "text"), make="system:MoH"),
    ),
    models=("model",),
    parts=("mixture_of_heads",),
    presets={
        "moh-dit": Preset(
            architecture="MoHDiT",
            about="Two heads always at work, one of the two others for each token.",
            options={"mixer": "moh(shared=2, routed=1)"},
        )
    },
    comparison={"moh": 'DiT(mixer="moh(shared=2, routed=1)")'},
)
__getattr__, __dir__ = lazily(__name__)
