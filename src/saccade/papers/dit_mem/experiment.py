"""DiT-Mem: what holds exactly of memory, and whether retrieved videos tell a frozen model how things move.

exact  a random Wan transformer in double precision: no memory, another order, equal tokens as one, tokens of zeros
arms   a small Wan, taught videos that move any way, under captions that do not say which; its memory encoder is trained
       on videos that move by their shape, and asked with retrieved, random and no memory, and with one branch alone
Expected: retrieved memory lowers the distance from the rule, random memory does not; the high branch carries motion,
the low one colour; distinct tokens and symmetric frequencies do better than the released form.
Undecided here: physics of real videos, PhyGenBench and VBench, which need models of billions of parameters.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Results, Row, RowTable, Verdicts
from saccade.experiments.claims import difference, higher
from saccade.metrics.intervals import Interval
from saccade.papers.dit_mem import exact as checks
from saccade.papers.dit_mem.figures import plot_errors, plot_filters, plot_ways
from saccade.papers.dit_mem.small_run import HIGH, LOW, NONE, OTHER, QUICK, RANDOM, RELEASED, RETRIEVED, SmallRun


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One frozen model; two encoders for each seed."""

    seeds: tuple[int, ...] = (0, 1)
    small: SmallRun = field(default_factory=SmallRun)


def lower(text: str, one: str, than: str) -> Claim:
    """The distance from the rule is smaller under one arm, video by video."""
    return Claim(text=text, measure=lambda found: difference(found, "arms.error", than, one, "video"), digits=3)


def holds(found: Results, passed: bool) -> Interval:
    """1 for what holds in every model, -1 for what does not."""
    value = 1.0 if passed else -1.0
    return Interval(low=value, mid=value, high=value, n=len(found.tables.get("exact", [])))


def at_most(text: str, check: str, most: float) -> Claim:
    """The largest change of any model."""

    def largest(found: Results) -> float:
        return max(found.values("exact.change", check=check))

    return Claim(
        text=text, measure=lambda found: holds(found, largest(found) <= most),
        evidence=lambda found: f"at most {largest(found):.0e}",
    )  # fmt: skip


def reaches(text: str, check: str) -> Claim:
    """The least change of any model is more than rounding."""

    def least(found: Results) -> float:
        return min(found.values("exact.change", check=check))

    return Claim(
        text=text, measure=lambda found: holds(found, least(found) > 1e-6),
        evidence=lambda found: f"at least {least(found):.0e}",
    )  # fmt: skip


CLAIMS = (
    at_most("no memory changes nothing, to the last bit", checks.OFF, 0.0),
    at_most("the order of memory tokens does not matter", checks.ORDER, 1e-6),
    at_most("1000 tokens are 10 distinct ones with log 100 on their logits", checks.EQUAL, 1e-6),
    reaches("tokens of zeros are not the same as no memory", checks.ZEROS),
    lower("retrieved memory keeps the rule better than none", RETRIEVED, NONE),
    lower("and better than random memory", RETRIEVED, RANDOM),
    lower("the high branch alone keeps it better than the low one alone", HIGH, LOW),
    higher("a memory of another colour leaks into the colour", "arms.colour", RETRIEVED, than=OTHER, pair="video"),
    lower("distinct tokens under symmetric frequencies do better than the released form", RETRIEVED, RELEASED),
    lower("four videos tell more than one", "4 shown", "1 shown"),
)
COLUMNS = (
    Column(source="arms.error", title="distance from the rule", show=".3f", interval=True, pair="video"),
    Column(source="arms.right", title="the rule's way", show=".2f"),
    Column(source="arms.colour", title="colour asked for", show=".2f"),
    Column(source="arms.seen", title="frames with a thing", show=".2f"),
)
SECTIONS = {
    "ways": (plot_ways,),
    "filters": (plot_filters,),
    "exact": (RowTable(table="exact", cells={"check": "{check}", "seed": "{seed}", "change": "{change:.1e}"}),),
    "arms": (
        plot_errors,
        ArmTable(columns=COLUMNS, of="arms.arm"),
        Note(
            "{small[steps]} steps of {small[batch]} videos for each encoder, on one frozen model of "
            "{small[videos][steps]} steps; a video for each colour and shape and seed. Distances in sides, means over "
            "frames; a still thing has 0.225."
        ),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
EXPERIMENT = Experiment(
    name="dit_mem",
    settings=Settings(),
    quick=Settings(seeds=(0,), small=QUICK),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part(per_seed=True)
def exact(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each check."""
    return checks.Forward(seed=bench.seed).rows()


@EXPERIMENT.part(per_seed=True, tables=True)
def trained(bench: Bench[Settings]) -> Iterable[Row]:
    """Rows of `arms`, one a video."""
    for row in bench.settings.small.rows(bench.seed, bench.work):
        yield {"table": "arms", **row}
