"""SiamLayout: adapters of three kinds trained for a few minutes on the bundled model, and where their things stand.

arms       held-out scenes of two things by captions that say no places: the model alone, and with each adapter
fractions  the siamese adapter, acting in the first steps alone
shares     what the image's tokens pay to text and layout, early, under one softmax and apart
Expected: boxes are kept better with a layout than without, by the siamese adapter best; most of it by 0.3 of the steps;
the caption suffers least under the siamese adapter.
Undecided here: what long trainings of large models come to, and LayoutSAM-Eval, which asks a vision-language model.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Results, Row, Verdicts, higher
from saccade.experiments.claims import difference
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.siamlayout.figures import plot_boxes, plot_fractions
from saccade.papers.siamlayout.small_run import BASE, QUICK, SmallRun


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training for each arm and seed."""

    seeds: tuple[int, ...] = (0,)
    small: SmallRun = field(default_factory=SmallRun)


def most_gain(found: Results) -> Interval:
    """Overlap at 0.3 of the steps less the middle of none and all, picture by picture."""
    none = found.by("arms.iou", "picture", arm=BASE)
    early, whole = (found.by("fractions.iou", "picture", arm=f"{until:g}") for until in (0.3, 1.0))
    return t_interval([early[i] - (none[i] + whole[i]) / 2 for i in none if i in early])


def better(text: str, column: str, than: str) -> Claim:
    """The siamese adapter is higher, picture by picture."""
    return higher(text, f"arms.{column}", "siamese", than=than, pair="picture", digits=3)


CLAIMS = (
    better("the siamese adapter brings things into their boxes", "iou", BASE),
    better("it keeps boxes better than one softmax of all three does", "iou", "m3"),
    better("and better than cross-attention to the layout does", "iou", "adapter"),
    better("it draws more of the caption's things than one softmax of all three", "there", "m3"),
    better("and more than cross-attention", "there", "adapter"),
    Claim(
        text="in one softmax the layout takes attention from the text",
        measure=lambda found: difference(found, "shares.text", "siamese", "m3", "picture"),
        digits=3,
    ),
    Claim(text="more than half of the gain is there when it acts in 0.3 of the steps", measure=most_gain, digits=3),
)
SHARES = (
    ("iou", "overlap with the box", ".3f"), ("placed", "centre in the box", ".2f"), ("centre", "centres apart", ".3f"),
    ("there", "thing there", ".2f"), ("colour", "colour at the box", ".2f"),
)  # fmt: skip


def columns(table: str) -> tuple[Column, ...]:
    """Of either table."""
    return tuple(Column(source=f"{table}.{name}", title=title, show=show) for name, title, show in SHARES)


EXPERIMENT = Experiment(
    name="siamlayout",
    settings=Settings(),
    quick=Settings(small=QUICK),
    hours=0.15,
    sections={
        "boxes": (plot_boxes,),
        "arms": (
            ArmTable(columns=columns("arms"), of="arms.arm"),
            Note(
                "{small[steps]} steps of {small[batch]} scenes for each adapter, one training each; {small[pictures]} "
                "held-out scenes of two things, {small[sampling]} steps, means over things."
            ),
        ),
        "fractions": (plot_fractions, ArmTable(columns=columns("fractions"), of="fractions.arm", title="share")),
        "shares": (
            ArmTable(
                columns=(
                    Column(source="shares.text", title="to the text", show=".3f"),
                    Column(source="shares.layout", title="to the layout", show=".3f"),
                ),
                of="shares.arm",
            ),
        ),
        "claims": (Verdicts(CLAIMS, differences=True),),
    },
    claims=CLAIMS,
)


@EXPERIMENT.part(per_seed=True, tables=True)
def trained(bench: Bench[Settings]) -> Iterable[Row]:
    """Rows of `arms` and `fractions`, one a picture."""
    yield from bench.settings.small.rows(bench.seed, bench.work)


@EXPERIMENT.part(per_seed=True)
def shares(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each picture under two of the adapters that `trained` made."""
    yield from bench.settings.small.shares(bench.seed, bench.work.parent / "trained")
