"""Systems that are no paper's: dense, recorders of operands and attention, a word's map, moved keys, shifted scores."""

from typing import TYPE_CHECKING

from saccade.core.catalogue import Entry, Offers, Paper
from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.systems.attention_recorder import AttentionRecorder as AttentionRecorder
    from saccade.systems.dense import Dense as Dense
    from saccade.systems.moved_keys import MovedKeys as MovedKeys
    from saccade.systems.operand_recorder import OperandRecorder as OperandRecorder
    from saccade.systems.score_shift import ScoreShift as ScoreShift
    from saccade.systems.word_map import WordMap as WordMap
    from saccade.systems.word_map import edit_mask as edit_mask

PAPER = Paper(
    title="Attention Is All You Need",
    year=2017,
    arxiv="1706.03762",
    bibtex="""@inproceedings{vaswani2017attention,
  title     = {Attention Is All You Need},
  author    = {Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob and Jones, Llion and
               Gomez, Aidan N. and Kaiser, Lukasz and Polosukhin, Illia},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2017}
}""",
)
OFFERS = Offers(
    entries=(
        Entry(name="dense", paper=PAPER, kind="baseline", seam="call", hosts=("grid", "text"), make="dense:Dense"),
    )
)
__getattr__, __dir__ = lazily(__name__)
