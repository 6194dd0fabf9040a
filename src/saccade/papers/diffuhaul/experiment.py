"""DiffUHaul: what each step does for drags of rendered scenes, in a model whose keys hang on places (FLUX's form).

steps      layout and caption alone, then masking, sharing, anchoring and nearest tokens, one after the other, as
           published (the source's keys stay in place) and with the object's tokens carried along
schedules  tau, and the direction of the weight of anchoring
photos     the noised photo in 1, 2 or 4 buckets, against inversion by Euler's method
Expected, after the paper: identity rises at each addition, traces fall with masking, sharing alone keeps the old
layout; buckets keep identity and surroundings better than naive inversion.
Not run: a denoiser trained with gated layers, on which the paper's first claim (colours leak between objects) rests.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Row, Verdicts
from saccade.experiments.claims import higher
from saccade.papers.diffuhaul.drags import Dragging, batches, rows

OFF: dict[str, Any] = {"masked": False, "share": False, "schedule": None, "nearest": False}
ORDER = {
    "layout alone": {}, "+ masking": {"masked": True}, "+ sharing": {"share": True},
    "+ anchoring": {"schedule": "t/T"}, "+ nearest": {"nearest": True},
}  # fmt: skip
DEFAULTS: dict[str, Any] = {"masked": True, "share": True, "schedule": "t/T", "nearest": True, "tau": 0.5}
FULL: dict[str, Any] = {"carry": True}
SCHEDULES = {
    "tau 0.25": {"tau": 0.25}, "tau 0.5": {}, "tau 0.75": {"tau": 0.75}, "1-t/T": {"schedule": "1-t/T"},
}  # fmt: skip
CARRIED, UNMASKED = "carried", "carried, no masking"
BUCKETS = (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`count` cases for each of the first `ways`, in `steps` steps, photos in `buckets` buckets."""

    model: str = "scenes-flux"
    ways: int = 8
    count: int = 13
    steps: int = 4
    buckets: int = 2


def stacked() -> dict[str, dict[str, Any]]:
    """Options of the first part's arms: each has what those before it have."""
    found, so_far = {}, dict(OFF)
    for name, more in ORDER.items():
        so_far = {**so_far, **more}
        found[name] = so_far
    carried = {f"{CARRIED} {name}": {**found[name], "carry": True} for name in list(ORDER)[2:]}
    return {**found, **carried, UNMASKED: {**FULL, "masked": False}}


SCORES = {
    "foreground": ("foreground", ".3f"), "traces": ("traces", ".3f"), "kept_psnr": ("PSNR outside, dB", ".1f"),
    "dragged": ("dragged", ".2f"), "left": ("left behind", ".2f"), "all": ("all as asked", ".2f"),
}  # fmt: skip


def table(part: str) -> ArmTable:
    """Means of an arm."""
    columns = (Column(source=f"{part}.{name}", title=title, show=show) for name, (title, show) in SCORES.items())
    return ArmTable(columns=tuple(columns), of=f"{part}.arm")


def more(text: str, column: str, one: str, than: str, digits: int = 3) -> Claim:
    """A score is higher in one arm, case by case."""
    return higher(text, column, one, than=than, pair="case", digits=digits)


ALONE, MASKED, SHARED, ANCHORED, NEAREST = ORDER
CLAIMS = (
    more("masking lowers traces", "steps.traces", ALONE, MASKED),
    more("sharing raises identity at the new place", "steps.foreground", SHARED, MASKED),
    more("sharing alone leaves the object where it was", "steps.left", SHARED, MASKED),
    more("anchoring raises identity", "steps.foreground", ANCHORED, SHARED),
    more("nearest tokens raise identity", "steps.foreground", NEAREST, ANCHORED),
    more("carried: identity is higher than as published", "steps.foreground", f"{CARRIED} {NEAREST}", NEAREST),
    more("carried: anchoring raises identity", "steps.foreground", f"{CARRIED} {ANCHORED}", f"{CARRIED} {SHARED}"),
    more("carried: nearest tokens raise identity", "steps.foreground", f"{CARRIED} {NEAREST}", f"{CARRIED} {ANCHORED}"),
    more("carried: masking lowers traces", "steps.traces", UNMASKED, f"{CARRIED} {NEAREST}"),
    more("a fading weight drags better than a rising one", "schedules.foreground", "tau 0.5", "1-t/T"),
    more("more early steps drag better than fewer", "schedules.foreground", "tau 0.75", "tau 0.25"),
    more("buckets keep identity better than naive inversion", "photos.foreground", "2 buckets", "inversion"),
    more("buckets keep surroundings better than naive inversion", "photos.kept_psnr", "2 buckets", "inversion", 1),
    more("more buckets keep identity better", "photos.foreground", "4 buckets", "1 buckets"),
)
SECTIONS = {
    "steps": (table("steps"), Note("8 ways, {count} scenes each, {steps} steps, photos in {buckets} buckets; means.")),
    "schedules": (table("schedules"),),
    "photos": (table("photos"),),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
EXPERIMENT = Experiment(
    name="diffuhaul",
    settings=Settings(),
    quick=Settings(ways=1, count=1, steps=2, buckets=2),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
    threads=1,
)


def arms(said: Settings) -> dict[str, dict[str, dict[str, Any]]]:
    """Options of every arm by table; those of an arm in two tables are equal."""
    full = {**FULL, "buckets": said.buckets}
    photos: dict[str, dict[str, Any]] = {f"{count} buckets": {**full, "buckets": count} for count in BUCKETS}
    return {
        "steps": {name: {"buckets": said.buckets, **options} for name, options in stacked().items()},
        "schedules": {name: {**full, **options} for name, options in SCHEDULES.items()},
        "photos": {**photos, "4 buckets, one noise": {**full, "buckets": 4, "fresh": "once"}, "inversion": {}},
    }


@EXPERIMENT.part(tables=True)
def drags(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each table, arm and case; what stands in two tables is drawn once."""
    dragging, known = opened(bench.settings), dict[str, list[Row]]()
    every = [(table, arm, options) for table, found in arms(bench.settings).items() for arm, options in found.items()]
    for done, (table, arm, options) in enumerate(every):
        bench.progress(done, len(every), f"{table}: {arm}")
        options = {**DEFAULTS, **options} if options else {}
        key = repr(sorted(options.items()))
        if key not in known:
            known[key] = list(scored(dragging, bench.settings, options))
        yield from ({"table": table, "arm": arm, "case": case} | row for case, row in enumerate(known[key]))


def scored(dragging: Dragging, said: Settings, options: dict[str, Any]) -> Iterable[Row]:
    """A row for each case; by inversion where there are no options."""
    for way, cases in enumerate(islice(batches(said.count), said.ways)):
        drawn = dragging.drag(cases, 100 * way, **options) if options else dragging.inverted(cases, **FULL)
        yield from rows(drawn, cases, dragging.system(cases))


def opened(said: Settings) -> Dragging:
    """The bundled model."""
    from saccade.pipelines.shared import shared_pipeline

    return Dragging(pipe=shared_pipeline(said.model), steps=said.steps)
