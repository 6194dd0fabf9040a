"""Every task of control on the bundled models, without a system and with each: what `saccade bench control` measures.

The cases, arms and scores are those that each paper's own experiment declares; a task names which of them stand beside
each other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from math import nan
from pathlib import Path
from typing import Any

from saccade.core.catalogue import experiments
from saccade.experiments import Results, Row
from saccade.experiments.experiment import Progress
from saccade.experiments.results import rounded
from saccade.experiments.summary import interval
from saccade.metrics.intervals import Interval, t_interval

PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of control.

    paper, table   whose experiment, and which of its tables
    parts          of the experiment that must run for it; the last one counts the cases
    arms           ours by the experiment's own names: nothing attached, and each system
    scores         columns of the table, by what they mean
    cases          the setting that counts them, of which there are `each` times as many
    fewer          other settings, of what comes before the cases, where the experiment's own would take long
    """

    paper: str
    table: str
    arms: dict[str, str]
    scores: dict[str, str]
    cases: str
    parts: tuple[str, ...] = ()
    each: int = 1
    fewer: Mapping[str, int] = field(default_factory=dict)


WHOLE = "caption kept"
OUTSIDE = "PSNR elsewhere, dB"
TASKS = {
    "recolour": Task(
        paper="consistedit", table="colour", cases="edits",
        arms={PLAIN: "re-prompting", "ConsistEdit": "full"},
        scores={"all": WHOLE, "iou": "overlap with the source", "kept_psnr": OUTSIDE},
    ),
    "reshape": Task(
        paper="consistedit", table="shape", cases="edits",
        arms={PLAIN: "re-prompting", "ConsistEdit": "strength 0.3"},
        scores={"made": "new shape", "colour": "colour kept", "kept_psnr": OUTSIDE},
    ),
    "move": Task(
        paper="freeflux", table="move", cases="edits",
        arms={PLAIN: "re-prompting", "FreeFlux": "content layers"},
        scores={"moved": "at the place asked", "colour": "colour kept", "all": WHOLE},
    ),
    "add": Task(
        paper="freeflux", table="add", cases="edits",
        arms={PLAIN: "re-prompting", "FreeFlux": "all but the word's place held"},
        scores={"made": WHOLE, "kept": OUTSIDE},
    ),
    "background": Task(
        paper="freeflux", table="background", cases="edits",
        arms={PLAIN: "re-prompting", "FreeFlux": "v"},
        scores={"made": "background", "kept": "PSNR of the object, dB", "all": WHOLE},
    ),
    "compose": Task(
        paper="lamic", table="places", cases="pairs",
        arms={PLAIN: "no masks", "LAMIC": "first stage 0.05"},
        scores={"inclusion": "IN-R, %", "both": "both things", "swapped": "swapped"},
    ),
    "insert": Task(
        paper="in_context_brush", table="insertion", cases="cases",
        arms={PLAIN: "D", "In-Context Brush": "B + C figure + D"},
        scores={"caption": WHOLE, "similarity": "similarity", "background": "background error"},
    ),
    "drag": Task(
        paper="diffuhaul", table="photos", parts=("drags",), cases="count", each=8,
        arms={PLAIN: "inversion", "DiffUHaul": "2 buckets"},
        scores={"all": "all as asked", "foreground": "likeness of the object", "kept_psnr": OUTSIDE},
    ),
    "guide": Task(
        paper="headhunter", table="held", parts=("heads", "strengths", "held"), cases="held", each=6,
        fewer={"captions": 12},
        arms={PLAIN: "no guidance", "SoftPAG": "heads found", "CFG": "classifier-free guidance"},
        scores={"kept": WHOLE},
    ),
    "story": Task(
        paper="ditctrl", table="stories", cases="stories",
        arms={PLAIN: "isolated", "DiTCtrl": "and masks"},
        scores={"cscv": "CSCV", "steady": "frames as named", "motion": "motion as named"},
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ControlCases:
    """`tasks` of `TASKS`, about `count` cases each.

    Raises ValueError for a task there is not, and for fewer than one case.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    count: int = 8
    quick: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count} must be at least 1")
        for name in self.tasks:
            if name not in TASKS:
                raise ValueError(f"task '{name}' is unknown; choose from {', '.join(TASKS)}")

    def cases(self, work: Path, progress: Progress) -> dict[str, Callable[[], list[Row]]]:
        """What measures each task; the experiment's own rows are kept in `work`."""
        return {name: lambda name=name: list(self.rows(name, work, progress)) for name in self.tasks}

    def rows(self, name: str, work: Path, progress: Progress) -> Iterable[Row]:
        """A row for each score and arm of a task: its mean with the 95 % interval."""
        task = TASKS[name]
        found = self.measured(task, work, progress)
        for score, means in task.scores.items():
            for arm, theirs in task.arms.items():
                spread = summed(found, task, score, theirs)
                yield {"task": name, "score": means, "arm": arm, **rounded(asdict(spread))}

    def measured(self, task: Task, work: Path, progress: Progress) -> Results:
        """Those parts of the paper's experiment that the task needs, with as many cases as asked."""
        experiment: Any = import_module(experiments()[task.paper]).EXPERIMENT
        usual = experiment.quick if self.quick else replace(experiment.settings, **task.fewer)
        settings = replace(usual, **{task.cases: max(1, self.count // task.each)})
        own = replace(experiment, settings=settings)
        return own.run(work / task.paper, only=task.parts or (task.table,), progress=progress)


def summed(found: Results, task: Task, score: str, arm: str) -> Interval:
    """A score's mean over the cases, which some experiments take themselves; without ends where all cases are alike."""
    values = [row[score] for row in found.rows(task.table, arm=arm) if row[score] is not None]
    if len(values) == 1 and isinstance(values[0], list):
        return interval(values[0], found.settings[task.cases])
    if len({*values}) == 1:
        return Interval(low=nan, mid=values[0], high=nan, n=len(values))
    return t_interval(values)
