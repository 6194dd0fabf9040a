"""One harness for every experiment: declared once, run by seeds, resumed after a kill, written to a page with verdicts.

A paper's `experiment.py`, or a file of `saccade.studies`, holds one `EXPERIMENT`; `saccade reproduce NAME` runs it.
"""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.experiments.bench_file import BenchFile as BenchFile
    from saccade.experiments.blocks import ArmTable as ArmTable
    from saccade.experiments.blocks import Column as Column
    from saccade.experiments.blocks import Lines as Lines
    from saccade.experiments.blocks import Note as Note
    from saccade.experiments.blocks import RowTable as RowTable
    from saccade.experiments.blocks import Verdicts as Verdicts
    from saccade.experiments.claims import Claim as Claim
    from saccade.experiments.claims import above as above
    from saccade.experiments.claims import higher as higher
    from saccade.experiments.claims import margin as margin
    from saccade.experiments.denoiser import fitted as fitted
    from saccade.experiments.experiment import Bench as Bench
    from saccade.experiments.experiment import Experiment as Experiment
    from saccade.experiments.page import Figures as Figures
    from saccade.experiments.results import Results as Results
    from saccade.experiments.results import Row as Row
    from saccade.experiments.training import Training as Training

__all__ = [
    "ArmTable",
    "Bench",
    "BenchFile",
    "Claim",
    "Column",
    "Experiment",
    "Figures",
    "Lines",
    "Note",
    "Results",
    "Row",
    "RowTable",
    "Training",
    "Verdicts",
    "above",
    "fitted",
    "higher",
    "margin",
]

__getattr__, __dir__ = lazily(__name__)
