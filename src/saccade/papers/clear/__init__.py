"""Linear-cost attention for trained transformers: each image token sees all text and a disc around itself (CLEAR).

r -> radius             Euclidean, in tokens, with a strict "<"
d -> pool               side of the patches of pooled keys (the released variants (16, 4) and (8, 4)); None for none
w -> weights            d x d pooling weights by site, `clear.trainable(sites)`
T0 -> trained_tokens    keys at training, text included: 64^2 + 512
log_T0(n) -> proportional, n = N, or 10 N with pooled keys
NTK factor -> ntk       on the rotary base of every axis
L -> distillation.DistillationLoss, L_fm, L_pred, L_attn -> flow, prediction, attention
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Recipe
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.clear.distillation import DistillationLoss as DistillationLoss
    from saccade.papers.clear.distillation import DistillationTask as DistillationTask
    from saccade.papers.clear.distillation import Student as Student
    from saccade.papers.clear.pooled_keys import PooledKeys as PooledKeys
    from saccade.papers.clear.pooled_keys import PoolingWeights as PoolingWeights
    from saccade.papers.clear.recipe import Distillation as Distillation
    from saccade.papers.clear.recipe import DistillationRecipe as DistillationRecipe
    from saccade.papers.clear.system import Clear as Clear

PAPER = Paper(
    title="CLEAR: Conv-Like Linearization Revs Pre-Trained Diffusion Transformers Up",
    year=2025,
    arxiv="2412.16112",
    bibtex="""@inproceedings{liu2025clear,
  title     = {{CLEAR}: Conv-Like Linearization Revs Pre-Trained Diffusion Transformers Up},
  author    = {Liu, Songhua and Tan, Zhenxiong and Wang, Xinchao},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025}
}""",
    claims=(
        "FLUX.1-dev at 8192 x 8192: 99.5 % less attention computation, 6.3x faster generation",
        "10 000 steps of distillation on 10 000 self-generated pictures bring the quality back to the teacher's",
        "the distilled projections transfer to sibling models and plugins without further training",
    ),
    deviations=(
        "distilled are low-rank terms beside to_q, to_k, to_v and to_out, not these matrices and biases themselves: so "
        "a file is small, the teacher needs no second copy, and detaching leaves the model as it was",
        "AdamW, or Muon, and an average of the weights, where the paper has Prodigy",
        "the bundled adapter is distilled on rendered scenes, not on pictures of the model itself, and compares the "
        "attention outputs of all three single-stream layers, since every fourth of five sites is only one",
        "tokens may be reordered by the kernel; the official code keeps the raster and touches 2 to 4 times the blocks",
        "text may stand first or last, or be absent: it comes from the host's layout, never from a constant",
        "on videos the disc becomes a ball in (t, y, x) and pooling works frame by frame: extensions, not in the paper",
        "padding a host masks stays masked; a causal host stays causal",
        "the NTK factor is an extra rotation of q and k by the difference of the angles",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(name="clear", paper=PAPER, kind="static sparse mask", seam="call", hosts=("grid",), make="system:Clear"),
    ),
    recipes={"clear-distil": Recipe(make="recipe:DistillationRecipe")},
)
__getattr__, __dir__ = lazily(__name__)
