"""LAMIC: what reaches an entity from another one's picture, and what its masks do to places, colours and backgrounds.

isolation  a random FLUX with three references, one forward: the change in a region when another reference is replaced
places     two things by text and place with the bundled model: LAMIC's IN-R and FI-R, swapped colours, the seam
Expected: the change falls from no masks over stage 2 and stage 1 to nothing without hubs; masks raise IN-R, cut swaps;
a first stage of all steps raises IN-R further and tears the background apart.
Undecided here: what becomes of reference pictures, since the bundled model was trained without any.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Results, Row, Verdicts
from saccade.experiments.claims import difference, higher
from saccade.metrics.intervals import Interval
from saccade.papers.lamic.figures import plot_masks
from saccade.papers.lamic.isolation import CLOSED, FIRST, SECOND, UNMASKED, Forward
from saccade.papers.lamic.places import Easel, pairs

PLAIN, LATER = "no masks", "stage 2 alone"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of both parts.

    seeds   models of the isolation
    pairs   drawn in `steps` steps, with the first stage as these shares of them
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    model: str = "scenes-flux"
    pairs: int = 100
    steps: int = 20
    first_stages: tuple[float, ...] = (0.0, 0.05, 0.2, 0.5, 1.0)


def arm(first_stage: float) -> str:
    """Of the places, by its first stage."""
    return LATER if first_stage == 0 else f"first stage {first_stage:g}"


def smaller(one: str, than: str) -> Claim:
    """Another reference changes a region less under one arm."""
    return Claim(
        text=f"another reference changes a region less under '{one}' than under '{than}'",
        measure=lambda found: difference(found, "isolation.change", than, one), digits=5,
    )  # fmt: skip


def untouched(found: Results) -> Interval:
    """1 where no model's region changed by a bit, -1 where one did."""
    changes = found.values("isolation.change", arm=CLOSED)
    value = -1.0 if any(changes) else 1.0
    return Interval(low=value, mid=value, high=value, n=len(changes))


def lower(text: str, column: str, one: str, than: str) -> Claim:
    """A column of the places is lower under one arm, pair by pair."""
    return Claim(text=text, measure=lambda found: difference(found, f"places.{column}", than, one, "pair"), digits=3)


SHORT, LONG = arm(0.05), arm(1.0)
CLAIMS = (
    smaller(SECOND, UNMASKED),
    smaller(FIRST, SECOND),
    smaller(CLOSED, FIRST),
    Claim(
        text="without hubs it changes nothing at all",
        measure=untouched,
        evidence=lambda found: f"{len(found.values('isolation.change', arm=CLOSED))} models in float64",
    ),
    higher("masks raise IN-R", "places.inclusion", SHORT, than=PLAIN, pair="pair", digits=1),
    lower("masks cut the rate of swapped colours", "swapped", SHORT, PLAIN),
    higher(
        "a first stage of all steps raises IN-R further", "places.inclusion", LONG, than=SHORT, pair="pair", digits=1
    ),
    lower("and tears the background apart", "seam", SHORT, LONG),
)
SECTIONS = {
    "masks": (plot_masks,),
    "isolation": (
        ArmTable(
            columns=(Column(source="isolation.change", title="largest change", show=".2e", interval=True),),
            of="isolation.arm",
        ),
    ),
    "places": (
        ArmTable(
            columns=(
                Column(source="places.inclusion", title="IN-R", show=".1f"),
                Column(source="places.filling", title="FI-R", show=".1f"),
                Column(source="places.both", title="both things", show=".2f"),
                Column(source="places.swapped", title="swapped", show=".2f"),
                Column(source="places.seam", title="seam", show=".3f"),
            ),
            of="places.arm",
        ),
        Note("{pairs} pairs, {steps} steps, 64 x 64 pixels; means. IN-R and FI-R in percent, 0 for what is not there."),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
EXPERIMENT = Experiment(
    name="lamic",
    settings=Settings(),
    quick=Settings(seeds=(0, 1), pairs=2, steps=2, first_stages=(0.0, 0.05, 1.0)),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part(per_seed=True)
def isolation(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm."""
    return Forward(seed=bench.seed).rows()


@EXPERIMENT.part()
def places(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and pair."""
    from saccade.pipelines.loading import load_pipeline

    said, pipe = bench.settings, load_pipeline(bench.settings.model)
    pipe.set_progress_bar_config(disable=True)
    easel = Easel(pipe=pipe, pairs=pairs(said.pairs), steps=said.steps)
    stages = {PLAIN: (), **{arm(share): (easel.lamic(share),) for share in said.first_stages}}
    for done, (name, systems) in enumerate(stages.items()):
        bench.progress(done, len(stages), name)
        yield from ({"arm": name} | row for row in easel.rows(easel.draw(*systems)))
