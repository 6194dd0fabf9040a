"""E-MMDiT, a small text-to-image transformer of two streams (2025): the model, and its subregions for trained models.

    paper                              here
    ASA(r, n), group floor(t/n) mod r  (regions, run) of subregions; mixer "asa"; `Subregions` on a trained model
    AdaLN-affine, b + T (1 + s)        nn.modulation.TableModulation(affine=True)
    multi-path compression             compression.TokenCompressor, TokenReconstructor
    Position Reinforcement             reinforce of config.EMMDiTConfig
    joint attention, block             joint_attention
    alignment with DINOv2              alignment

Differs: see PAPER.deviations. Source: the paper and its code, AMD-AGI/Nitro-E.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.e_mmdit.config import EMMDiTConfig as EMMDiTConfig
    from saccade.papers.e_mmdit.model import EMMDiT as EMMDiT
    from saccade.papers.e_mmdit.system import Subregions as Subregions

PAPER = Paper(
    title="E-MMDiT: Revisiting Multimodal Diffusion Transformer Design for Fast Image Synthesis under Limited "
    "Resources",
    year=2025,
    arxiv="2510.27135",
    bibtex="""@article{shen2025emmdit,
  title   = {{E-MMDiT}: Revisiting Multimodal Diffusion Transformer Design for Fast Image Synthesis under Limited
             Resources},
  author  = {Shen, Tong and Yu, Jingai and Zhou, Dong and Li, Dong and Barsoum, Emad},
  journal = {arXiv preprint arXiv:2510.27135},
  year    = {2025}
}""",
    claims=(
        "304M parameters, 25M public pictures, a day and a half on 8 MI300X: GenEval 0.66 at 512 px, 0.72 after GRPO",
        "18.8 pictures a second on one MI300X in 20 steps, 39.3 in 4 steps after distillation",
    ),
    deviations=(
        "pictures of any sides that can be grouped, from the middle of one table of positions; the code takes squares",
        "padding words may be masked, the mask being split like the words; the code attends to padding, the default",
        "times are drawn from the whole of [0, 1]; the code draws one of a thousand",
        "the layer that is aligned is named; the code always takes the first group's last",
        "several targets of alignment add up; in the code the last one overwrites the others",
        "the table of positions is made anew and not stored; official checkpoints hold it, and it is compared",
        "on trained models subregions are a mask and take any length; the text's groups are those of its own places",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(name="e_mmdit", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:EMMDiT"),
        Entry(
            name="subregions",
            paper=PAPER,
            kind="static sparse mask",
            seam="call",
            hosts=("flux", "sd3", "qwen_image"),
            make="system:Subregions",
        ),
    ),
    models=("model",),
    parts=("subregions",),
    comparison={
        "asa": 'DiT(mixer=("asa(regions=1)", "asa(run=1)", "asa(run=4)", "asa(regions=1)"))',
        "e_mmdit": "EMMDiT(groups=(1, 2, 1), patterns=((1, 1), (4, 1)))",
    },
)
__getattr__, __dir__ = lazily(__name__)
