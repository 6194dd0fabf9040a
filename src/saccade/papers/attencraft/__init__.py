"""Several new concepts learned from one picture, each bound to a word, by masks from its own maps (AttenCraft).

draft
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Offers, Paper
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
    from saccade.papers.attencraft.subsets import SubsetSampler as SubsetSampler
    from saccade.papers.attencraft.system import AttenCraft as AttenCraft
    from saccade.papers.attencraft.training import Weights as Weights

PAPER = Paper(title="AttenCraft", year=2024, arxiv="2405.17965", bibtex="")
OFFERS = Offers()
__getattr__, __dir__ = lazily(__name__)
