"""Mask2DiT: what a caption decides under each mask, what passes from clip to clip, and what the mask costs.

exact      a random CogVideoX in float64: who reaches whom in one layer, and what an extension leaves as it was
scenes     small models trained on stories of two clips under each mask: their own backgrounds, leaks, one colour
extension  a clip that follows one that is there, which is modulated with timestep 0 or with that of the new clip
speed      the mask in runs beside the dense mask, from two to six scenes
Expected: leaks without a mask and not under the dual one; one colour under the dual one and not between strangers.
Undecided here: what the paper's scores measure, of videos of many seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Figures, Note, Results, Row, Verdicts
from saccade.experiments.claims import difference, higher
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.mask2dit import exact as checks
from saccade.papers.mask2dit.figures import plot_masks
from saccade.papers.mask2dit.recipe import SmallScenes
from saccade.papers.mask2dit.small_run import Trained
from saccade.papers.mask2dit.system import Seen
from saccade.papers.mask2dit.timing import timed
from saccade.ui.markdown import markdown_table

MASKS: tuple[Seen, ...] = ("dual", "none", "block_diagonal")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all parts.

    steps   of training, on `stories` rendered ones; each model is asked for `asked` held-out ones in `sample_steps`
    counts  numbers of scenes timed, `rounds` times each
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    model: SmallScenes = field(default_factory=lambda: SmallScenes(close=True))
    steps: int = 200
    stories: int = 384
    asked: int = 64
    sample_steps: int = 16
    counts: tuple[int, ...] = (2, 3, 4, 6)
    rounds: int = 5


def holds(found: Results, passed: bool) -> Interval:
    """1 for what holds in every model, -1 for what does not."""
    value = 1.0 if passed else -1.0
    return Interval(low=value, mid=value, high=value, n=len(found.tables.get("exact", [])))


def nothing(text: str, check: str) -> Claim:
    """The change is 0 to the last bit in all models."""
    return Claim(
        text=text,
        measure=lambda found: holds(found, not any(found.values("exact.change", check=check))),
        evidence=lambda found: f"{len(found.values('exact.change', check=check))} models",
    )


def within(text: str, check: str, most: float = 1e-12) -> Claim:
    """The difference is rounding."""
    return Claim(
        text=text,
        measure=lambda found: holds(found, max(found.values("exact.change", check=check)) < most),
        evidence=lambda found: f"at most {max(found.values('exact.change', check=check)):.0e}",
    )


def reaches(text: str, check: str) -> Claim:
    """There is a change in all models."""
    return Claim(
        text=text,
        measure=lambda found: holds(found, min(found.values("exact.change", check=check)) > 1e-9),
        evidence=lambda found: f"at least {min(found.values('exact.change', check=check)):.0e}",
    )


def faster(found: Results, scenes: int) -> Interval:
    """How many times as fast runs are as the dense mask, less 1."""
    return t_interval([value - 1 for value in found.values("speed.faster", scenes=scenes)])


def lower_leak(found: Results) -> Interval:
    """Of the dual mask against none."""
    return difference(found, "scenes.leak", "none", "dual")


def nearer(found: Results) -> Interval:
    """Colours under the dual mask against those of strangers."""
    return difference(found, "scenes.apart", "block_diagonal", "dual")


CLAIMS = (
    nothing("another caption changes a clip by nothing in one layer", checks.ONE),
    reaches("it does in two, by way of its own clip", checks.TWO),
    reaches("another clip does in one", checks.CLIP),
    within("runs and the dense mask give one result", checks.RUNS),
    within("time 0 for every scene is the normal mode at time 0", checks.TIME),
    nothing("an extension leaves the clips that are there as they were", checks.KNOWN),
    Claim(text="the mask lowers leaks from the other caption", measure=lower_leak, digits=2),
    higher(
        "two clips show one colour more often under the dual mask than as strangers", "scenes.same", "dual",
        than="block_diagonal", digits=2,
    ),
    Claim(text="and their colours lie nearer to each other", measure=nearer, digits=3),
    higher(
        "a clip takes up the colour of the one before more often under times of their own than under one time",
        "extension.same", "time 0", than="one time", digits=2,
    ),
    Claim(text="runs are faster than the dense mask, at two scenes", measure=lambda found: faster(found, 2), digits=2),
    Claim(text="and at six", measure=lambda found: faster(found, 6), digits=2),
)  # fmt: skip
SHARES = (
    Column(source="background", title="own background", show=".2f"),
    Column(source="leak", title="the other's", show=".2f"),
    Column(source="same", title="one colour", show=".2f"),
    Column(source="apart", title="colours apart", show=".3f"),
)


def shares(table: str) -> tuple[Column, ...]:
    """Columns of a table of shares."""
    return tuple(Column(source=f"{table}.{c.source}", title=c.title, show=c.show) for c in SHARES)


def speed_table(found: Results, figures: Figures) -> str:
    """A line for each number of scenes, medians over rounds."""
    lines = []
    for scenes in found.distinct("speed.scenes"):
        rows = found.rows("speed", scenes=scenes)
        dense, bare = (median(row[name] for row in rows) for name in ("faster", "than_bare"))
        first = rows[0]
        share, held = f"{first['scores']:.0%}", f"{first['map']:.1f} MB"
        lines.append([scenes, first["tokens"], share, held, f"{dense:.2f}", f"{bare:.2f}"])
    heads = ["scenes", "tokens", "pairs computed", "map of the dense mask", "against the dense mask", "against no mask"]
    return markdown_table(heads, lines)


SECTIONS = {
    "masks": (plot_masks,),
    "scenes": (
        ArmTable(columns=shares("scenes"), of="scenes.arm"),
        Note("{steps} steps of training, {asked} held-out stories of two clips a seed."),
    ),
    "extension": (ArmTable(columns=shares("extension"), of="extension.arm"),),
    "speed": (
        speed_table,
        Note(
            "Times as fast, medians of {rounds} rounds in turn; captions of 64 tokens, clips of 512, two heads of 64."
        ),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
EXPERIMENT = Experiment(
    name="mask2dit",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), model=SmallScenes(layers=1, heads=2, close=True), steps=2, stories=6, asked=2, sample_steps=1,
        counts=(2, 6), rounds=2,
    ),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part(per_seed=True)
def exact(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each check."""
    return checks.Forward(seed=bench.seed).rows()


@EXPERIMENT.part(per_seed=True, tables=True)
def trained(bench: Bench[Settings]) -> Iterable[Row]:
    """Rows of `scenes` for each mask, and of `extension`."""
    said = bench.settings
    for done, mask in enumerate(MASKS):
        bench.progress(done, len(MASKS), mask)
        arm = Trained(
            seed=bench.seed, mask=mask, model=said.model, steps=said.steps, stories=said.stories, asked=said.asked,
            sample_steps=said.sample_steps,
        )  # fmt: skip
        yield from arm.rows(bench.work)


@EXPERIMENT.part()
def speed(bench: Bench[Settings]) -> Iterable[Row]:
    """Rows for each number of scenes, a round each."""
    for done, scenes in enumerate(bench.settings.counts):
        bench.progress(done, len(bench.settings.counts), f"{scenes} scenes")
        yield from timed(scenes, bench.settings.rounds)
