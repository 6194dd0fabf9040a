"""AdaSpa on a small pipeline: how long a mask stays good, what it costs in fidelity, and what the kept lse changes.

recalls    of a mask found after the warm-up, at every step: its own prompt's, another prompt's, one found anew
samples    pictures beside those of dense attention at equally many blocks: AdaSpa, one sparsity for all heads, a band
           about the diagonal, random blocks; and how many keep what their caption promises
refreshes  the mask by the kept lse beside that by the lse of the step itself
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from saccade.experiments import Bench, Experiment, Row
from saccade.papers.adaspa import measures
from saccade.papers.adaspa.measures import ARMS, Drawn
from saccade.papers.adaspa.sections import CLAIMS, SECTIONS
from saccade.pipelines.shared import shared_pipeline


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    model     a pipeline of the scenes: a bundled name or a directory
    small     has all parts, and `large` the pictures alone
    sparsity  the usual one
    """

    model: str = "scenes-flux"
    small: Drawn = field(default_factory=Drawn)
    large: Drawn = field(default_factory=lambda: Drawn(grid=32, block=16, captions=4, sparsities=(0.8, 0.9)))
    steps: int = 16
    sparsity: float = 0.8


EXPERIMENT = Experiment(
    name="adaspa",
    settings=Settings(),
    quick=Settings(
        small=Drawn(grid=8, block=4, captions=2, sparsities=(0.6, 0.8)),
        large=Drawn(grid=8, block=8, captions=1, sparsities=(0.8,)),
        steps=4,
    ),
    hours=0.15,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part(tables=True)
def recalls(bench: Bench[Settings]) -> Iterable[Row]:
    """Of masks at later steps."""
    about = bench.settings
    return measures.recalls(shared_pipeline(about.model), about.small, about.steps, about.sparsity)


@EXPERIMENT.part()
def refreshes(bench: Bench[Settings]) -> Iterable[Row]:
    """By the kept lse and by a fresh one."""
    about = bench.settings
    return measures.refreshes(shared_pipeline(about.model), about.small, about.steps, about.sparsity)


@EXPERIMENT.part()
def samples(bench: Bench[Settings]) -> Iterable[Row]:
    """Pictures of every arm."""
    about = bench.settings
    for drawn in (about.small, about.large):
        arms = [(arm, sparsity) for sparsity in drawn.sparsities for arm in ARMS]
        for done, row in enumerate(measures.samples(shared_pipeline(about.model), drawn, about.steps, arms)):
            bench.progress(done // drawn.captions, len(arms) + 1, f"{drawn.grid} x {drawn.grid}, {row['arm']}")
            yield row
