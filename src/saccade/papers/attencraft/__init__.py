"""Several new concepts learned from one picture, each bound to a word, by masks from the model's own maps (AttenCraft).

<new1>, <new2> -> Concept     a new word, the known one it sets out from, and what describes it
K', V' -> customiser          terms beside the text's projections to keys and values; `rank=None` for whole matrices
C, c, c2, A4, f -> maps       columns of the attention to words, stretched, squared, spread by the affinity
theta -> Customisation.theta  by how much a class's map must exceed all others to own a token
Omega_j -> make_masks         the masks; `assign` gives them words, `MaskRefresher` makes them anew
L_rec, L_attn -> losses       reconstruction within the masks, Jensen-Shannon divergence of maps and masks
lambda_prior -> Weights.prior
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper, Recipe
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.attencraft.concepts import Concept as Concept
    from saccade.papers.attencraft.customiser import Customisation as Customisation
    from saccade.papers.attencraft.customiser import customise as customise
    from saccade.papers.attencraft.customiser import load_concepts as load_concepts
    from saccade.papers.attencraft.losses import attn_jsd_loss as attn_jsd_loss
    from saccade.papers.attencraft.losses import reconstruction_loss as reconstruction_loss
    from saccade.papers.attencraft.maps import extract_maps as extract_maps
    from saccade.papers.attencraft.masks import MaskRefresher as MaskRefresher
    from saccade.papers.attencraft.masks import assign as assign
    from saccade.papers.attencraft.masks import make_masks as make_masks
    from saccade.papers.attencraft.prior import PriorPictures as PriorPictures
    from saccade.papers.attencraft.recipe import AttenCraftRecipe as AttenCraftRecipe
    from saccade.papers.attencraft.subsets import SubsetSampler as SubsetSampler
    from saccade.papers.attencraft.system import AttenCraft as AttenCraft
    from saccade.papers.attencraft.training import Weights as Weights

PAPER = Paper(
    title="AttenCraft: Attention-guided Disentanglement of Multiple Concepts for Text-to-Image Customization",
    year=2024,
    arxiv="2405.17965",
    bibtex="""@article{shentu2024attencraft,
  title   = {AttenCraft: Attention-guided Disentanglement of Multiple Concepts for Text-to-Image Customization},
  author  = {Shentu, Junjie and Watson, Matthew and Al Moubayed, Noura},
  journal = {arXiv preprint arXiv:2405.17965},
  year    = {2024}
}""",
    claims=(
        "the model's own attention maps make masks of several concepts in one picture, without a segmenter",
        "guiding the attention of the new words by the masks keeps the concepts apart",
        "sampling which concepts a prompt names evens out how fast they are learned",
        "better image alignment than the baselines, text alignment comparable",
    ),
    deviations=(
        "terms beside the projections are trained, not copies of them, so detaching leaves the model as it was; "
        "rank=None allows any change of the matrices, as in the paper",
        "all new words are trained; the released loop compares with a wrong index and trains the first alone",
        "no weight decay, which would move rows and matrices that no gradient reaches",
        "the reconstruction counts within the masks; the released tensors broadcast, so half of theirs ignores them",
        "masks are clamped to [0, 1] where they are enlarged; released: they overshoot",
        "compat='official' restores the released first word, broadcast and overshoot",
        "the first masks take no step of the optimiser",
        "reweighted sampling was not released: a concept alone comes as often as the inverse of the attention its word "
        "pays to its own mask",
        "any number of concepts and of rows; released: two, and one",
        "where a tokenizer marks no start of the text, the background is what ends it, or words of the template",
        "maps of joint attention are shares of all keys; the image's own block of it takes the place of self-attention",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="attencraft",
            paper=PAPER,
            kind="learned keys and values of new words",
            seam="call",
            hosts=("flux", "sd3", "pixart"),
            make="system:AttenCraft",
        ),
    ),
    recipes={"attencraft": Recipe(make="recipe:AttenCraftRecipe")},
)
__getattr__, __dir__ = lazily(__name__)
