"""Several new concepts learned from one picture, each bound to a word of its own, by masks found in the model's own maps (AttenCraft).

draft
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.attencraft.losses import attn_jsd_loss as attn_jsd_loss
    from saccade.papers.attencraft.losses import reconstruction_loss as reconstruction_loss
    from saccade.papers.attencraft.maps import extract_maps as extract_maps
    from saccade.papers.attencraft.masks import MaskRefresher as MaskRefresher
    from saccade.papers.attencraft.masks import assign as assign
    from saccade.papers.attencraft.masks import make_masks as make_masks
    from saccade.papers.attencraft.subsets import SubsetSampler as SubsetSampler

PAPER = Paper(title="AttenCraft", year=2024, arxiv="2405.17965", bibtex="")
OFFERS = Offers()
__getattr__, __dir__ = lazily(__name__)
