"""Large pictures by local attention and a low-resolution anchor, on a model trained for small ones (Scale-DiT).

HR, LR tokens -> segments "image", "low"     of `anchored(text=, high=, low=)`
window_patches -> window     HR tokens along a window; half of it, inclusive, is how far a token sees
down -> ratio                HR tokens along one LR token, from the two grids
w, w-1, w+1 -> neighbours    "row", the released rule; "grid" looks up and down too
NTK factor -> ntk            on the rotary base, of `LowStream`
LoRA (rank 16, alpha 16) -> `add_lora_`, or peft's own layers; `LowStream` says on which tokens they act
two stages -> `two_stages`   the small picture, then the large one round it
S_hr -> high_steps           of the `steps`, what remains for the large picture
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.scale_dit.anchor_layout import anchored as anchored
    from saccade.papers.scale_dit.lora import add_lora_ as add_lora_
    from saccade.papers.scale_dit.low_stream import LowStream as LowStream
    from saccade.papers.scale_dit.low_stream import LowTokens as LowTokens
    from saccade.papers.scale_dit.sampling import Stages as Stages
    from saccade.papers.scale_dit.sampling import two_stages as two_stages
    from saccade.papers.scale_dit.system import ScaleDiT as ScaleDiT
    from saccade.papers.scale_dit.token_orders import block_density as block_density
    from saccade.papers.scale_dit.token_orders import block_map as block_map
    from saccade.papers.scale_dit.token_orders import ordered as ordered
    from saccade.papers.scale_dit.training import flow_loss as flow_loss

PAPER = Paper(
    title="Scale-DiT: Ultra-High-Resolution Image Generation with Hierarchical Local Attention",
    year=2025,
    arxiv="2510.16325",
    bibtex="""@article{zhang2025scaledit,
  title   = {{Scale-DiT}: Ultra-High-Resolution Image Generation with Hierarchical Local Attention},
  author  = {Zhang, Yuyao and Tai, Yu-Wing},
  journal = {arXiv preprint arXiv:2510.16325},
  year    = {2025}
}""",
    claims=(
        "4096 x 4096 on FLUX.1, one GPU: 7.81 s an iteration against 17.89 dense (2.29x), 3.5x in all",
        "8192 x 8192, a later version: 130.4x fewer attention FLOPs, 6.93x an iteration, 10.77x in all",
        "4096 x 4096: FID 67.03, CLIP-IQA 0.4505, without pictures of that size in training",
    ),
    deviations=(
        "masks are made for the tokens at hand; the released code reads files of one size each, and keeps the first "
        "it met for all later sizes",
        "lengths need not be multiples of 128 and 64; the released kernel's map drops the tokens at the end",
        "mask and tokens have one order in all cases; the released sampler leaves the low-resolution tokens of small "
        "pictures in raster order under a mask that permutes them",
        "attention is exact under the mask; the released kernel computes whole blocks in 8 bits: expand='window' gives "
        "its blocks, exactly",
        "kernels choose the token order themselves; `ordered` gives the paper's",
        "low_sees_text is one option for training and sampling; the released code trains with it and samples without",
        "each stage has the time shift of its own size; the released sampler takes the small picture's for both",
        "LoRA layers stand where the paper has them; peft's work too, but are not needed",
        "the released trainer uses Prodigy; `tune` is AdamW",
        "neighbours='grid', for windows above and below: an extension",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="scale_dit", paper=PAPER, kind="static sparse mask", seam="call", hosts=("grid",),
            make="system:ScaleDiT",
        ),
    ),
)  # fmt: skip
__getattr__, __dir__ = lazily(__name__)
