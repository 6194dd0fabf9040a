"""A map of attention for each group of a compact CNN's channels, at two numbers a channel (ULSAM).

m, g, G -> width, groups, width / groups           F_n -> the channels of group n, in order
DW, PW -> ULSAM.scale, ULSAM.point                 each for all groups at once, the same numbers
A_n -> ULSAM.maps                                  a softmax over the positions, one map a group
norm_act                                           with norms and ReLUs as the code, or without as the equations
added, substituted -> `insert_ulsam(after=, instead=)` in a model that there is, `ULSAMMobileNet` from scratch
layers -> numbered with the stem as 1
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.ulsam.insertion import InsertedULSAM as InsertedULSAM
    from saccade.papers.ulsam.insertion import insert_ulsam as insert_ulsam
    from saccade.papers.ulsam.model import ULSAMMobileNet as ULSAMMobileNet
    from saccade.papers.ulsam.subspace_attention import ULSAM as ULSAM

PAPER = Paper(
    title="ULSAM: Ultra-Lightweight Subspace Attention Module for Compact Convolutional Neural Networks",
    year=2020,
    arxiv="2006.15102",
    bibtex="""@inproceedings{saini2020ulsam,
  title     = {{ULSAM}: Ultra-Lightweight Subspace Attention Module for Compact Convolutional Neural Networks},
  author    = {Saini, Rajat and Jha, Nandan Kumar and Das, Bedanta and Mittal, Sparsh and Mohan, C. Krishna},
  booktitle = {IEEE Winter Conference on Applications of Computer Vision},
  year      = {2020}
}""",
    claims=(
        "MobileNetV1 with one block of 512 channels substituted: 517M of 569M multiply-adds, ImageNet 70.43, not 70.65",
        "MobileNetV2 with two blocks substituted: 262M of 300M multiply-adds, ImageNet 71.52 against 71.25",
        "fine-grained birds: MobileNetV1 62.88 -> 64.44, MobileNetV2 62.94 -> 65.41, at less cost",
        "1K parameters for 512 channels at 14 x 14, where SE and CBAM take 33K",
    ),
    deviations=(
        "all groups are computed at once by grouped convolutions; the official names are known, both ways",
        "momentum of the running statistics is 0.1; the code's 0.9 (the last batch decides) is momentum=0.9",
        "the softmax is taken in float32 at least; nothing global is set on import",
        "the arguments nout, h and w of the official constructor, which it ignores, are not there",
        "published parameter totals start from a rounded 4.2M and 3.4M; the differences agree, V2 itself has 3.50M",
        "which layer names the paper's tables mean for added modules is inferred from their cost",
        "in transformers tokens are put on their grid first; class and register tokens pass by",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="ulsam", paper=PAPER, kind="spatial attention", seam="model", hosts=("torch",),
            make="model:ULSAMMobileNet",
        ),
    ),
    models=("model",),
    parts=("subspace_attention",),
    comparison={"ulsam": 'DiT(mixer="ulsam")'},
)  # fmt: skip
__getattr__, __dir__ = lazily(__name__)
