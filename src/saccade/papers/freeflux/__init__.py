"""Find the layers that hang on positions and those that go by content, and edit pictures by each (FreeFlux).

D(l) -> LayerScores.closeness   mean PSNR, over prompts, seeds and moves, to the picture drawn with nothing moved
m -> MOVES                      keys unrotated, or shifted by (10, 10), (0, 20), (64, 0) of 64 x 64 tokens
POS, SIM -> LayerSets.position, .content      the layers of lowest and of highest D, of the model at hand
inject(K, V; J) -> SharedOperands    target rows take k and v of image tokens J from their source row
C, reasoning pass, G -> AddObject, WordMap(mutual=True), free       where the new object may be
D -> Reshape                    E -> KeepRegion, `by` moves it
P_s, P_t -> rows                source and target rows of one batch, from the same noise; `Rows.of("source", "target")`
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.analysis.layers import LayerScores as LayerScores
    from saccade.analysis.layers import LayerSets as LayerSets
    from saccade.papers.freeflux.kinds import AddObject as AddObject
    from saccade.papers.freeflux.kinds import KeepRegion as KeepRegion
    from saccade.papers.freeflux.kinds import Reshape as Reshape
    from saccade.papers.freeflux.probe import MOVES as MOVES
    from saccade.papers.freeflux.probe import VIDEO_MOVES as VIDEO_MOVES
    from saccade.papers.freeflux.probe import known_layers as known_layers
    from saccade.papers.freeflux.probe import probe_layers as probe_layers
    from saccade.papers.freeflux.system import FreeFlux as FreeFlux

PAPER = Paper(
    title="FreeFlux: Understanding and Exploiting Layer-Specific Roles in RoPE-Based MMDiT for Versatile Image Editing",
    year=2025,
    arxiv="2503.16153",
    bibtex="""@inproceedings{wei2025freeflux,
  title     = {FreeFlux: Understanding and Exploiting Layer-Specific Roles in RoPE-Based MMDiT for Versatile Image
               Editing},
  author    = {Wei, Tianyi and Zhou, Yifan and Chen, Dongdong and Pan, Xingang},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2025}
}""",
    claims=(
        "layers of FLUX.1-dev differ in how much they hang on positions, with no simple relation to depth",
        "each kind of edit works by the layers that suit it: add an object, reshape, keep a region",
    ),
    deviations=(
        "no layer set is built in: the probe makes them for the model at hand, as many layers as the paper's shares",
        "the probe compares pictures as they are; jpeg=True compares 512 x 512 JPEGs, as released",
        "shifts are shares of the grid, which on 64 x 64 tokens are the released ones",
        "maps are read as columns and rows of the word alone, at the layers and step that are watched; no map is held",
        "a word's tokens are found by its characters in the prompt, at its first place there",
        "the largest part of a map is one object; token_regions.region(components=k) keeps k",
        "a mask on pixels is one of the tokens that cover any of it; released: of those whose middle it covers",
        "a real picture's source row gets the inverted latent of its own noise level; released: one place off",
        "the mask of a segmenter is the user's to give; spread_points gives the clicks, from a seed",
    ),
)
OFFERS = Offers(
    entries=(
        Entry(
            name="freeflux",
            paper=PAPER,
            kind="editing by shared operands",
            seam="call",
            hosts=("flux", "qwen_image", "hunyuan_video", "wan", "cogvideox", "sd3"),
            make="system:FreeFlux",
        ),
    ),
)
__getattr__, __dir__ = lazily(__name__)
