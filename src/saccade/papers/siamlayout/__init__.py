"""Boxes with captions on SD3 or FLUX, by a second attention of image and layout in each block (SiamLayout).

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
    from saccade.papers.siamlayout.adapter import LayoutAdapter as LayoutAdapter
    from saccade.papers.siamlayout.boxes import CaptionedBox as CaptionedBox
    from saccade.papers.siamlayout.boxes import LayoutBatch as LayoutBatch
    from saccade.papers.siamlayout.boxes import captioned as captioned
    from saccade.papers.siamlayout.config import SIZES as SIZES
    from saccade.papers.siamlayout.config import AdapterConfig as AdapterConfig
    from saccade.papers.siamlayout.encoding import encode_layout as encode_layout
    from saccade.papers.siamlayout.examples import Examples as Examples
    from saccade.papers.siamlayout.planner import Hint as Hint
    from saccade.papers.siamlayout.planner import layout_prompt as layout_prompt
    from saccade.papers.siamlayout.planner import plan_layout as plan_layout
    from saccade.papers.siamlayout.planner import serialise as serialise
    from saccade.papers.siamlayout.position_net import box_code as box_code
    from saccade.papers.siamlayout.proposals import layout_faults as layout_faults
    from saccade.papers.siamlayout.proposals import parse_layout as parse_layout
    from saccade.papers.siamlayout.proposals import repair as repair
    from saccade.papers.siamlayout.recipe import SiamLayoutRecipe as SiamLayoutRecipe
    from saccade.papers.siamlayout.scenes import read_layout as read_layout
    from saccade.papers.siamlayout.scoring import LayoutScores as LayoutScores
    from saccade.papers.siamlayout.scoring import says_yes as says_yes
    from saccade.papers.siamlayout.scoring import score_layout as score_layout
    from saccade.papers.siamlayout.stream import LayoutStream as LayoutStream
    from saccade.papers.siamlayout.system import SiamLayout as SiamLayout
    from saccade.papers.siamlayout.training import LayoutLoss as LayoutLoss
    from saccade.papers.siamlayout.training import LayoutStage as LayoutStage
    from saccade.papers.siamlayout.training import LayoutTask as LayoutTask
    from saccade.papers.siamlayout.training import train_adapter as train_adapter

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
    claims=(
        "a branch of its own lets the layout act without competing with the text for the image's attention: better "
        "than one softmax of all three, and than an adapter",
        "others find, on LayoutSAM-Eval (SMARLI): with FLUX spatial 95.67, colour 80.71, texture 83.53, shape 82.80, "
        "mIoU 78.01; with SD3 on 1000 of it (ContextGen): spatial 93.59, colour 77.43, texture 79.62, shape 78.89",
        "others find on COCO-MIG (ContextGen): success rate 19.12, by instance 54.69, mIoU 48.96",
        "a language model writes, completes and improves layouts",
    ),
    deviations=(
        "no layout leaves the model as it is; the released SD3 code runs layout tokens of zeros: compat='official'",
        "more boxes than slots are an error; the released code drops them with a message for SD3 and fails for FLUX",
        "the branch's part is added before the block, whose norm is made without it, and not between its attention and "
        "its feed-forward: the same sum in another order",
        "mask_padding=True lets padded slots be no keys; as released all ten always are",
        "the training was not released: rectified flow with more weight within boxes, biased times, dropped text and "
        "layout, and branches that set out from the block's own weights are the specification's best guess",
        "Stable Diffusion 3.5 with its norms of queries and keys and its second attention: an extension",
        "low-rank terms are for SD3 alone; on its last block they have no output for the layout",
        "the ablations are after short notes: 'adapter' asks keys and values of the layout by the block's own queries, "
        "'m3' gives the layout projections of its own in the block's softmax, under the text's norms of queries and "
        "keys",
        "the layout planner is an interface: prompts, parser, checks and repair are ours, weights are not needed",
        "questions to the judge are in our own words",
        "official names are known of SD3 with whole weights alone",
    ),
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
