"""Boxes with captions on a pretrained SD3 or FLUX, by a second attention of image and layout in each block (SiamLayout).

b, m -> LayoutBatch.boxes, mask      x0, y0, x1, y1 in [0, 1]; which of the 10 slots are used
f_k, code -> position_net.box_code   100^(k/8), 64 numbers a box; `PositionNet` makes tokens of them
branch 2, Z -> DoubleBranch, SingleBranch, zero_linear     and `LowRankBranch`, on the model's own weights
e -> layout tokens                   10 for SD3, one for each word for FLUX; `LayoutStream` carries them
s -> scale, 30 % -> until            of `SiamLayout`
Layout Designer -> plan_layout       any text model; LayoutSAM-Eval -> score_layout, with a judge of yours
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Recipe
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.siamlayout.adapter import SIZES as SIZES
    from saccade.papers.siamlayout.adapter import AdapterConfig as AdapterConfig
    from saccade.papers.siamlayout.adapter import LayoutAdapter as LayoutAdapter
    from saccade.papers.siamlayout.boxes import CaptionedBox as CaptionedBox
    from saccade.papers.siamlayout.boxes import LayoutBatch as LayoutBatch
    from saccade.papers.siamlayout.boxes import captioned as captioned
    from saccade.papers.siamlayout.encoding import encode_layout as encode_layout
    from saccade.papers.siamlayout.position_net import box_code as box_code
    from saccade.papers.siamlayout.stream import LayoutStream as LayoutStream
    from saccade.papers.siamlayout.system import SiamLayout as SiamLayout

PAPER = Paper(
    title="CreatiLayout: Siamese Multimodal Diffusion Transformer for Creative Layout-to-Image Generation",
    year=2024,
    arxiv="2412.03859",
    bibtex="""@inproceedings{zhang2025creatilayout,
  title     = {{CreatiLayout}: Siamese Multimodal Diffusion Transformer for Creative Layout-to-Image Generation},
  author    = {Zhang, Hui and Hong, Dexiang and Wang, Yitong and Shao, Jie and Wu, Xinglong and Wu, Zuxuan and
               Jiang, Yu-Gang},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year      = {2025}
}""",
)
OFFERS = Offers(
    entries=(
        Entry(
            name="siamlayout",
            paper=PAPER,
            kind="layout adapter beside the attention",
            seam="block",
            hosts=("sd3", "flux"),
            make="system:SiamLayout",
        ),
    ),
    recipes={"siamlayout": Recipe(make="recipe:SiamLayoutRecipe")},
)
__getattr__, __dir__ = lazily(__name__)
