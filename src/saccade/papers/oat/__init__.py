"""Predict which objects somebody looks at in turn by pointing at them, with distance-aligned positions (OAT).

P objects of R x C -> search.Search     P, P + 1, P + 2 -> search.special: end, padding, begin
E -> nn.distance_table                  cos(E_i, E_j) = exp(-(i - j)^2 / (2 sigma^2)); by descent: nn.optimised_table
score_h(t, i) -> nn.PointerHead         the scores over objects are the logits
NW, delta, MultiMatch -> metrics.scanpaths
Differs: see PAPER.deviations.
"""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.papers.oat.decoding import scanpaths as scanpaths
    from saccade.papers.oat.model import OAT as OAT
    from saccade.papers.oat.model import OATConfig as OATConfig
    from saccade.papers.oat.preparation import leave_out as leave_out
    from saccade.papers.oat.preparation import sort_boxes as sort_boxes
    from saccade.papers.oat.preparation import split_trials as split_trials
    from saccade.papers.oat.preparation import to_objects as to_objects
    from saccade.papers.oat.preparation import usual_lengths as usual_lengths
    from saccade.papers.oat.search import Search as Search
    from saccade.papers.oat.search import special as special
    from saccade.papers.oat.training import ScanpathStage as ScanpathStage
    from saccade.papers.oat.training import ScanpathTask as ScanpathTask
    from saccade.papers.oat.training import padded as padded

PAPER = Paper(
    title="OAT: Object-Level Attention Transformer for Gaze Scanpath Prediction",
    year=2024,
    arxiv="2407.13335",
    bibtex="""@inproceedings{fang2024oat,
  title     = {{OAT}: Object-Level Attention Transformer for Gaze Scanpath Prediction},
  author    = {Fang, Yini and Yu, Jingling and Zhang, Haozheng and van der Lans, Ralf and Shi, Bertram},
  booktitle = {European Conference on Computer Vision},
  year      = {2024}
}""",
    claims=(
        "predicted sequences of fixated objects are closer to people's than those of models of spatial attention, by "
        "established measures and by one of behaviour",
        "it holds for layouts and targets that were not trained on",
        "no number was available to us",
    ),
    deviations=(
        "the extra target token does not tell where the target is; target_position='true' is the released way, which "
        "does",
        "the position table is a closed form; nn.optimised_table makes one as the released tables were made",
        "positions='original_update' turns the codes exactly; the released code descends to it",
        "attention weights are not dropped in training; what blocks add and what the decoder reads is",
        "crops of tokens that are no object are ones throughout; compat='official' has zeros for end and padding in "
        "decoding, which changes no fixation",
        "trained to averaged weights; the paper stops early and keeps the best of its checkpoints",
        "places between whole numbers, continuous=True, and layouts whose number of objects differs, are ours",
    ),
)
OFFERS = Offers(
    entries=(Entry(name="oat", paper=PAPER, kind="architecture", seam="model", hosts=("torch",), make="model:OAT"),),
    models=("model",),
)
__getattr__, __dir__ = lazily(__name__)
