"""Insert a subject from one picture into another, steered by a text, by a frozen model (In-Context Brush).

I_c, I_s, M -> subject, into, mask      a `Diptych`: the subject on white on top, the target below, its mask
p, c, s -> text, demo, query            tokens of the text, the demonstration half and the half that is steered
alpha_1, alpha_2 -> alpha_text, alpha_demo   h_s + alpha_1 A_sp v_p + alpha_2 A_sc v_c, the softmax as it was (Eq. 5)
a_h, w_h -> `head_weights`              text mass of a head's query rows; 1 + beta min-max over heads (Eqs. 6 to 8)
z_{t-1}, M_lat -> `runs.with_known`     latents outside the mask are the noised source after each step (Sec. 3.4)
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.in_context_brush.diptych import Diptych as Diptych
    from saccade.papers.in_context_brush.diptych import make_diptych as make_diptych
    from saccade.papers.in_context_brush.diptych import on_white as on_white
    from saccade.papers.in_context_brush.system import InContextBrush as InContextBrush

PAPER = Paper(
    title="In-Context Brush: Zero-shot Customized Subject Insertion with Context-Aware Latent Space Manipulation",
    year=2025,
    arxiv="2505.20271",
    bibtex="""@inproceedings{xu2025incontext,
  title     = {{In-Context Brush}: Zero-shot Customized Subject Insertion with Context-Aware Latent Space Manipulation},
  author    = {Xu, Yu and Tang, Fan and Wu, You and Gao, Lin and Deussen, Oliver and Yan, Hongbin and Li, Jintao and
               Cao, Juan and Lee, Tong-Yee},
  booktitle = {SIGGRAPH Asia},
  note      = {arXiv:2505.20271},
  year      = {2025}
}""",
    claims=(
        "better identity, text alignment and quality of inserted subjects than prior methods, without training or data",
    ),
    deviations=(
        "heads are weighed in the query's rows, in double-stream blocks, as the method's figure has it; the released "
        "code scales all rows in all blocks: compat='official'",
        "text masses are summed in float32 from log-sum-exps over column groups; no n x n map is made",
        "the released blending does nothing; here latents outside the mask are the noised source at the level that was "
        "reached, with one noise for the whole run, and the clean source at the end; blend=False is what was released",
        "halves must be equal; the released code takes the first floor(n / 2) tokens: compat='official'",
        "the number of text tokens is read from the host, not fixed at 512; words=(...) leaves padding out of the text",
        "the subject is fitted into its half on white, keeping its proportions; the released code stretches it",
        "left and right halves, halves of the frames, reference segments and tokens one by one: extensions",
        "image-only attention beside the joint one is shifted along the demonstration; cross-attention along the text",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="in_context_brush",
            paper=PAPER,
            kind="outputs shifted along text and demonstration",
            seam="call",
            hosts=("flux", "qwen_image", "sd3", "hunyuan_video", "cogvideox", "pixart", "wan"),
            make="system:InContextBrush",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
