"""Compose several reference pictures by texts and places, on a model that was trained with one (LAMIC).

SAD_i, CEI, EPrt -> text_i, interaction, padding   tokens of an entity's words, of the sentence on all, and the rest
Reg_i, UReg -> region_i, rest      image tokens of an entity's place, and of nobody's
Ref_i -> reference_i               tokens of its reference picture, a segment of the host's layout
G_1, G_2 -> `group_table`          verdicts between groups in the two stages: "=" own, "1" all, "2" from stage 2 on
M_s -> `GroupIsolation`            a pair of tokens passes if any pair of their groups does
Group Isolation Attention -> what no stage opens; Region-Modulated Attention -> what the second stage opens
first stage 0.05 T -> first_stage, de-overlap -> Entity.apart, enhance_factor -> `compose(strengths=...)`
IN-R, FI-R, BG-S, ID-S -> metrics.composition
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.mechanisms.canvas import Box as Box
    from saccade.papers.lamic.groups import GroupIsolation as GroupIsolation
    from saccade.papers.lamic.groups import group_table as group_table
    from saccade.papers.lamic.system import Entity as Entity
    from saccade.papers.lamic.system import Lamic as Lamic

PAPER = Paper(
    title="LAMIC: Layout-Aware Multi-Image Composition via Scalability of Multimodal Diffusion Transformer",
    year=2025,
    arxiv="2508.00477",
    bibtex="""@article{chen2025lamic,
  title   = {{LAMIC}: Layout-Aware Multi-Image Composition via Scalability of Multimodal Diffusion Transformer},
  author  = {Chen, Yuzhuo and Ma, Zehua and Wang, Jianhua and Kang, Kai and Yao, Shunyu and Zhang, Weiming},
  journal = {arXiv preprint arXiv:2508.00477},
  year    = {2025}
}""",
    claims=(
        "two references: best ID-S, 78.04; three: best BG-S, 86.06; four: best average, 74.44, and best DPG",
        "IN-R above 90 in all settings",
        "others find the contrary: on LAMICBench++ (ContextGen) an average of 45.61, the lowest of 10 open methods, "
        "where Kontext without masks has 63.33 on a pasted collage; on COCO-MIG a success rate of 1.25",
    ),
    deviations=(
        "words are found by the characters of the whole prompt; the released code counts each piece with an end token "
        "of its own and is off by one token a piece: compat='official' of `compose` counts so",
        "compose joins pieces by a space, compat='official' by nothing",
        "the end of the text counts as padding",
        "padding is a hub between all groups, as released; padding='isolated' closes it, compose(padding='dropped') "
        "leaves it out",
        "masks are verdicts between regions of tokens for block-sparse kernels, not n x n",
        "an entity without a token in its region is an error; so is one that de-overlapping leaves without",
        "an entity may do without a reference picture: its place then holds by its words alone",
        "image-only attention beside the joint one is masked too, cross-attention is not; on videos a region is the "
        "same in every frame: extensions",
        "negative prompts run by themselves need their own words, negative=; where branches are stacked in one batch "
        "all rows share the positions of words",
        "IN-R, FI-R, BG-S and ID-S are after the paper's names and its sequels' code: theirs was not released",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="lamic",
            paper=PAPER,
            kind="group masks by text, place and reference",
            seam="call",
            hosts=("flux", "qwen_image", "sd3", "hunyuan_video", "cogvideox"),
            make="system:Lamic",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
