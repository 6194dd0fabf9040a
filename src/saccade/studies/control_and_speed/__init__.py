"""Control and acceleration on one stack: does a task keep its quality beside a system that saves attention?

    recolour  an object's colour is edited (ConsistEdit): the parser finds the target's caption kept
    compose   two objects at their places (LAMIC): both there and no other, one left of the other
    guide     away from a copy with one head weakened (SoftPAG): the caption kept

Expected: within two points of control alone for every pair. Quality is judged at a size the bundled model draws well,
time at one where attention is a good part of it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from saccade.core.catalogue import lookup
from saccade.core.mechanism import System
from saccade.data import scenes
from saccade.data.scenes import Prompt, Want
from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Results, Row, Verdicts
from saccade.experiments.claims import difference
from saccade.metrics.fidelity import Picture
from saccade.metrics.intervals import Interval, affine
from saccade.pipelines.shared import shared_pipeline

__all__ = ["EXPERIMENT"]

ALONE = "alone"
POINTS = 0.02
HEAD, STRENGTH = (1, 2), 0.5  # the best that papers.headhunter found here on twelve captions
HALVES = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
BESIDE: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    ALONE: (),
    "SparseD": (("sparsed", {"keep": 0.3, "block": 16, "skip": 0.125, "queries": 4}),),
    "CLEAR, distilled": (("clear", {"radius": 8, "distilled": True}),),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`cases` of each task at `side` pixels; times at `timed` pixels, each `repeats` times, all arms in turn."""

    model: str = "scenes-flux"
    side: int = 128
    steps: int = 20
    cases: int = 12
    timed: int = 256
    repeats: int = 3


@dataclass(frozen=True, kw_only=True)
class Studio:
    """The bundled model at one size."""

    pipe: Any
    side: int
    steps: int

    @property
    def sizes(self) -> dict[str, Any]:
        """Arguments of every task."""
        return {"height": self.side, "width": self.side, "steps": self.steps}


Task = Callable[[Studio, int, tuple[System, ...]], tuple[Picture, Prompt]]


def recolour(studio: Studio, case: int, systems: tuple[System, ...]) -> tuple[Picture, Prompt]:
    """The object's colour changed, and what the target's caption promises."""
    from saccade.edit import BUNDLED_SETTINGS, edit
    from saccade.papers.consistedit.edits import cases

    one = next(islice(cases("colour"), 2 * case, None))  # every second has one object alone
    found = edit(
        studio.pipe, source=one.source.text, target=one.target.text, word=one.word, seed=one.seed, systems=systems,
        **{**BUNDLED_SETTINGS, **studio.sizes},
    )  # fmt: skip
    return found.after, one.target


def compose(studio: Studio, case: int, systems: tuple[System, ...]) -> tuple[Picture, Prompt]:
    """Two objects side by side, and a caption that promises just that."""
    from saccade.compose import BUNDLED_SETTINGS
    from saccade.compose import compose as run
    from saccade.papers.lamic.places import pairs

    pair = pairs(16)[case % 16]
    made = run(
        studio.pipe, texts=pair.texts, boxes=HALVES, interaction="on a gray background", seeds=case, systems=systems,
        **{**BUNDLED_SETTINGS, **studio.sizes},
    )  # fmt: skip
    wants = tuple(Want(colour=colour, shape=shape, size="large") for colour, shape in (pair.left, pair.right))
    return made.pictures, Prompt(text=" ".join(pair.texts), wants=wants, relations=((0, "left of", 1),))


def guide(studio: Studio, case: int, systems: tuple[System, ...]) -> tuple[Picture, Prompt]:
    """One object, and its caption."""
    from saccade.guide import guide as run

    prompt = scenes.prompts(case + 1, seed=11, count=1, split="held-out")[case]
    made = run(
        studio.pipe, prompt.text, heads=(HEAD,), w=STRENGTH, seed=case, systems=systems,
        options={"max_sequence_length": 32}, **studio.sizes,
    )  # fmt: skip
    return made.guided[STRENGTH], prompt


TASKS: dict[str, Task] = {"recolour": recolour, "compose": compose, "guide": guide}


def kept(task: str, beside: str) -> Claim:
    """A pair loses at most two points of what control alone reaches."""

    def measure(found: Results) -> Interval:
        change = difference(found, "quality.kept", f"{task}, {beside}", f"{task}, {ALONE}", pair="case")
        return affine(change, offset=POINTS)

    return Claim(text=f"{task} beside {beside} keeps what it does alone, up to two points", measure=measure, digits=3)


KEPT = Column(source="quality.kept", title="kept", show=".3f", interval=True, pair="case")
TIME = Column(source="time.ratio", title="time, of control alone", show=".2f", interval=True, pair="case")
CLAIMS = tuple(kept(task, beside) for task in TASKS for beside in BESIDE if beside != ALONE)
SECTIONS = {
    "quality": (
        ArmTable(columns=(KEPT,), of="quality.arm"),
        Note("{cases} cases each, {side} pixels, {steps} steps. `kept` is the share with everything as asked."),
    ),
    "time": (
        ArmTable(columns=(TIME,), of="time.arm"),
        Note("{timed} pixels, {repeats} times, in turn; the whole call of the verb, patterns found anew each time."),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
EXPERIMENT = Experiment(
    name="control_and_speed",
    settings=Settings(),
    quick=Settings(side=64, steps=2, cases=1, timed=64, repeats=1),
    hours=0.2,
    sections=SECTIONS,
    claims=CLAIMS,
    page="studies/control_and_speed.md",
    threads=None,
)


@EXPERIMENT.part()
def quality(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each task, system beside it, and case."""
    about = bench.settings
    studio = Studio(pipe=shared_pipeline(about.model), side=about.side, steps=about.steps)
    for done, (task, beside) in enumerate(pairings()):
        bench.progress(done, len(TASKS) * len(BESIDE), f"{task}, {beside}")
        for case in range(about.cases):
            picture, promised = TASKS[task](studio, case, systems(beside))
            yield {"arm": f"{task}, {beside}", "case": case, "kept": float(scenes.judge(picture[0], promised).all)}


@EXPERIMENT.part(name="time")
def times(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each task, system beside it, and repetition: its time as a share of control's alone."""
    from saccade.ops import warm

    about = bench.settings
    warm()
    studio = Studio(pipe=shared_pipeline(about.model), side=about.timed, steps=about.steps)
    for task in TASKS:
        for beside in BESIDE:
            seconds(Studio(pipe=studio.pipe, side=about.timed, steps=2), task, beside)  # warm
        for repeat in range(about.repeats):
            bench.progress(repeat, about.repeats, task)
            took = {beside: seconds(studio, task, beside) for beside in BESIDE}
            yield from ({"arm": f"{task}, {b}", "case": repeat, "ratio": t / took[ALONE]} for b, t in took.items())


def pairings() -> Iterator[tuple[str, str]]:
    """Every task with every system beside it, and alone."""
    return ((task, beside) for task in TASKS for beside in BESIDE)


def systems(beside: str) -> tuple[System, ...]:
    """New objects of the systems of a name."""
    return tuple(lookup(name).load()(**options) for name, options in BESIDE[beside])


def seconds(studio: Studio, task: str, beside: str) -> float:
    """Of one call."""
    start = time.perf_counter()
    TASKS[task](studio, 0, systems(beside))
    return time.perf_counter() - start
