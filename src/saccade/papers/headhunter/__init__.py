"""Guidance away from a copy of the model with a few attention heads weakened, and the search for them (HeadHunter).

eps + w (eps - eps_pert) -> w           with classifier-free guidance both terms add up, s = 1 + c of the paper
A, A' -> kind, u, tau                   A' = (1 - u) A + u P by family; no map is formed, see `perturbations`
S, (l, h) -> heads                      layer and head from 0, in order of execution
"batch rows [uncond, cond, pert]"       a weak row for each conditional one, `saccade.run.weak_rows`
O, Q, k, R -> objective, prompts, best, rounds   of `saccade.runs.hunt_heads`
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.headhunter.hunt import all_heads as all_heads
    from saccade.papers.headhunter.hunt import weakened_pictures as weakened_pictures
    from saccade.papers.headhunter.perturbations import KINDS as KINDS
    from saccade.papers.headhunter.perturbations import SCOPES as SCOPES
    from saccade.papers.headhunter.plots import plot_heads as plot_heads
    from saccade.papers.headhunter.system import SoftPAG as SoftPAG

PAPER = Paper(
    title="Fine-Grained Perturbation Guidance via Attention Head Selection",
    year=2025,
    arxiv="2506.10978",
    bibtex="""@article{ahn2025fine,
  title   = {Fine-Grained Perturbation Guidance via Attention Head Selection},
  author  = {Ahn, Donghoon and Kang, Jiwon and Lee, Sanghyun and Kim, Minjae and Min, Jaewon and Jang, Wooseok and
             Lee, Sangwu and Paul, Sayak and Hong, Susung and Kim, Seungryong},
  journal = {arXiv preprint arXiv:2506.10978},
  year    = {2025}
}""",
    claims=(
        "heads of one layer do different things: single ones change structure, light or texture",
        "six well-chosen heads, a quarter of a layer's, match or beat the best whole layer (SD3, FID on COCO)",
        "SD3-medium, styles: CFG 3.0 with head guidance 3.0 gives PickScore 20.92 and aesthetics 5.93, CFG alone 20.87 "
        "and 5.71",
        "heads chosen over several rounds suit a style better than the best of one round",
    ),
    deviations=(
        "the paper does not say what happens to text keys; scope='image_block' is what diffusers does for SD3",
        "within 'image_block' every family replaces scores between image tokens and keeps those with text: the uniform "
        "map then has score 0 there, and the best key its own",
        "uniform and mean-query maps are one row for all queries and see every key but padding, whatever other masks "
        "there are; a temperature leaves biases of other systems as large as they are",
        "a pipeline that rescales its guided prediction (Qwen-Image, guidance_rescale) rescales the steered one",
        "a head of grouped-query attention is a query head; keys and values are shared",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="softpag",
            paper=PAPER,
            kind="guidance by weakened heads",
            seam="run",
            hosts=("flux", "sd3", "pixart", "wan", "cogvideox", "hunyuan_video", "hunyuan_dit", "qwen_image", "torch"),
            make="system:SoftPAG",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
