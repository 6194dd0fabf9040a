"""Edit by words while shape or surroundings stay: operands of a source picture shared with a target's (ConsistEdit).

alpha -> strength            share of the steps, from the noisy end, that keep the structure; n_qk = int(alpha T)
M -> mask, R = 1 - M         where to edit, on the grid of image tokens; R is what to keep
P_s, P_t -> rows             source and target rows of one batch, from the same noise; `Rows.of("source", "target")`
Q, K in M while i < n_qk -> structure      Q, K, V in R at every step -> kept
"new mask" method            the mask's pass and the edit run by the same kernel here, always
cache of a source run -> tape              an inverted picture's operands, or those of an edit to go on from
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.consistedit.system import ConsistEdit as ConsistEdit
    from saccade.papers.consistedit.system import Region as Region
    from saccade.papers.consistedit.system import check_strength as check_strength

PAPER = Paper(
    title="ConsistEdit: Highly Consistent and Precise Training-free Visual Editing",
    year=2025,
    arxiv="2510.17803",
    bibtex="""@inproceedings{yin2025consistedit,
  title     = {ConsistEdit: Highly Consistent and Precise Training-free Visual Editing},
  author    = {Yin, Zixin and Chen, Ling-Hao and Ni, Lionel and Dai, Xili},
  booktitle = {SIGGRAPH Asia 2025 Conference Papers},
  year      = {2025}
}""",
    claims=(
        "colour and material edits of SD3-medium: Canny-SSIM 0.88, background PSNR 36.8 dB (next best 0.82, 30.6 dB)",
        "outside the edit: Q, K, V copied 38.9 dB, V alone 38.0, Q, K alone 24.3",
        "vision tokens only, in all blocks: all tokens kill the edit, the last half of the blocks breaks structure",
    ),
    deviations=(
        "a tape is read at the noise level of the step; align='official' reads one level cleaner, as released",
        "with a tape, a source row's v is taken from it too; taped='qk' leaves v alone, as released for two rows",
        "masks stay tensors, made binary once; nothing passes through an 8-bit picture",
        "the mask reads only the columns of its word, with the normaliser of the kernel itself; no map is held",
        "hosts with several stacks of blocks are edited in the last, which is FLUX's rule; where=at() edits all",
        "SD3.5's second, image-only attention is edited too",
        "several regions with a strength each are an extension",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="consistedit",
            paper=PAPER,
            kind="editing by shared operands",
            seam="call",
            hosts=("flux", "sd3", "pixart", "wan", "cogvideox", "hunyuan_video", "qwen_image", "torch"),
            make="system:ConsistEdit",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
