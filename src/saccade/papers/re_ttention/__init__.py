"""Attention to a narrow window, mended by two statistics of an earlier dense step (Re-ttention).

S_i, M -> `RasterWindow`, mask   the keys a query keeps; f -> keep, the share of a picture's or frame's tokens
rho_i -> `ratio`                 (b h n) share of the softmax that fell on the window: exp(LSE_window - LSE_all)
R_i -> `residual`                (b h n d) what all other keys gave: out_all - rho out_window
lambda -> ramp                   added to rho after each sparse step
T0, first full steps -> dense    as a share of the steps
caching period -> period         steps from one dense step to the next, later on
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.re_ttention.raster_window import RasterWindow as RasterWindow
    from saccade.papers.re_ttention.system import PRESETS as PRESETS
    from saccade.papers.re_ttention.system import ReTtention as ReTtention

PAPER = Paper(
    title="Re-ttention: Ultra Sparse Visual Generation via Attention Statistical Reshape",
    year=2025,
    arxiv="2505.22918",
    bibtex="""@inproceedings{chen2025rettention,
  title     = {{Re-ttention}: Ultra Sparse Visual Generation via Attention Statistical Reshape},
  author    = {Chen, Ruichen and Mills, Keith G. and Jiang, Liyao and Gao, Chao and Niu, Di},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025}
}""",
    claims=(
        "CogVideoX-2B, 3.1 % of pairs kept: LPIPS 0.059 to full attention, DiTFastAttn 0.098, Sparse VideoGen 0.898",
        "PixArt-Sigma at 1024 x 1024, 3.1 % kept: GenEval 0.512, full attention 0.544, DiTFastAttn 0.233",
        "ramp 0.04 is best of 0, 0.01, 0.02 and 0.04 by HPSv2, though not by much over 0",
        "over 45 % less end-to-end and over 92 % less self-attention latency on an H100 (of a later version)",
    ),
    deviations=(
        "rows whose window held all of the softmax (text rows, which keep every key) are not ramped; the official code "
        "scales them up to 1.12 times: compat='official'",
        "the schedule is a share of the steps and a period, for any number of steps; the official PixArt code lists "
        "steps 5, 10 and 15",
        "the residual is kept per head before the output projection, in float32; the official code keeps it behind, "
        "which is the same where nothing but a linear layer follows",
        "ratios come from log-sum-exps and windows run by block-sparse kernels; the official code makes n x n maps",
        "a new generation forgets all statistics; the official code relies on a counter that its scripts reset",
        "a step whose statistics nobody would read takes none",
        "hosts with text last, text in every block or a window of another make are extensions",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="re_ttention",
            paper=PAPER,
            kind="static window with cached statistics",
            seam="call",
            hosts=("grid",),
            make="system:ReTtention",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
