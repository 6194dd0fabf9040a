"""Convolve some channels and let the others attend: partial convolution with attention on what it leaves idle (PATNet).

n_div -> divide              C1 = C // divide channels are convolved, the first ones; C2, the rest, attend
PConv -> partial.PartialConv, mixer "pconv"        the rest passes as it is: FasterNet
PAT_ch -> partial.ChannelPAT, mixer "pat_ch"       (mu, sd) -> channel_gate.GaussianGate
PAT_sp -> spatial.SpatialPAT                       in the feed-forward "pat_mlp"; here the last half is convolved
PAT_sf -> self_attention.SelfPAT, mixer "pat_sf"   T, bucket(i, j) -> relative_bias
block v1, v2 -> block.PATBlock                     v2 where the mixer has a residual of its own
re-parameterisation -> folding.folded
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.patnet.folding import folded as folded
    from saccade.papers.patnet.model import PATNet as PATNet
    from saccade.papers.patnet.partial import ChannelPAT as ChannelPAT
    from saccade.papers.patnet.partial import PartialConv as PartialConv
    from saccade.papers.patnet.self_attention import SelfPAT as SelfPAT
    from saccade.papers.patnet.spatial import SpatialPAT as SpatialPAT

PAPER = Paper(
    title="Partial Convolution Meets Visual Attention",
    year=2025,
    arxiv="2503.03148",
    bibtex="""@article{huang2025partial,
  title   = {Partial Convolution Meets Visual Attention},
  author  = {Huang, Haiduo and Yang, Fuwei and Li, Dong and Liu, Ji and Tian, Lu and Peng, Jinzhang and Ren, Pengju
             and Barsoum, Emad},
  journal = {arXiv preprint arXiv:2503.03148},
  year    = {2025}
}""",
    claims=(
        "PATNet-T2: 80.2 on ImageNet, FasterNet-T2 78.9, at 25 % more pictures a second and 24 % less time on a CPU",
        "attention on a part of the channels replaces attention on all, with fewer parameters and multiply-adds",
        "T0 to L: 73.9, 78.1, 80.2, 82.1, 83.1, 83.9, read off a chart; FasterNet 71.9, 76.2, 78.9, 81.3, 83.0, 83.5",
    ),
    deviations=(
        "built after the code of the sibling PartialNet (haiduo/PartialNet), which has the same blocks; the text of "
        "the paper was not at hand",
        "T0 and T1 are 1, 2, 6, 4 blocks deep, as their published parameters ask; the released files say 1, 2, 8, 2: "
        "'T0-yaml', 'T1-yaml'",
        "four heads in all sizes, as the released files have them; heads=6 in 'pat_sf(heads=6)' is the paper's other "
        "value",
        "variances are taken in float32 at least and never below 1e-12, so that a constant channel has a gradient",
        "attention and its bias are computed in float32 at least; tables of buckets are kept by size and device",
        "without attention in the last stage its block has one residual, as FasterNet; the released code keeps two",
        "published multiply-adds are those of the folded network, published parameters of the unfolded one",
        "learned split ratios belong to the sibling paper and are not here",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(name="patnet", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:PATNet"),
    ),
    models=("model",),
    parts=("partial", "self_attention", "spatial"),
    comparison={"patnet": 'DiT(mixer="pat_ch", ffn="pat_mlp")'},
)
__getattr__, __dir__ = lazily(__name__)
