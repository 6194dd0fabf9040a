"""DraftAttention: how much attention a draft finds in smooth fields, which blocks it touches, what pictures it leaves.

Expected: regions by their true attention above those of the draft, these above maxima and far above random ones, and
the draft nearer to the truth the smoother the fields; without sorting tokens far more blocks; of pictures, the draft
nearer to dense ones than a band or random regions of the same density, and nearer still after a dense quarter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from saccade.core.layout import Grid, Layout
from saccade.experiments import Bench, Claim, Experiment, Figures, Lines, Results, Row, RowTable, Verdicts
from saccade.experiments.claims import difference
from saccade.experiments.summary import Ends, interval
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.draft_attention import fields as of_fields
from saccade.papers.draft_attention import zero_shot
from saccade.papers.draft_attention.arms import arms
from saccade.papers.draft_attention.draft import Pool
from saccade.pipelines.shared import shared_pipeline


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the fields, the blocks, the pictures and the timed call.

    lengths     of the low-pass, in tokens; sharpness is the standard deviation of scores
    grid, pool  of the fields; `large`, `patch` of the touched blocks, and `patch` of the timed call
    model       a pipeline of the scenes, drawing `side` x `side` image tokens in patches of `cell`
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    grid: Grid = (2, 16, 32)
    pool: Pool = (4, 4)
    lengths: tuple[float, ...] = (1.0, 2.0, 4.0)
    shares: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    columns: int = 32
    sharpness: float = 2.0
    large: Grid = (4, 48, 80)
    patch: Pool = (8, 16)
    model: str = "scenes-flux"
    side: int = 16
    cell: Pool = (4, 4)
    sparsities: tuple[float, ...] = (0.6, 0.8, 0.9)
    skips: tuple[float, ...] = (0.0, 0.25)
    captions: int = 12
    steps: int = 12
    timed: Grid = (4, 64, 64)
    heads: int = 8


def order(text: str, arm: str, than: str) -> Claim:
    """An arm finds more of the attention than another, over all fields, seed by seed."""
    return Claim(text=text, measure=lambda found: difference(found, "recall.recall", arm, than))


def narrowing(found: Results) -> Interval:
    """How much further the draft lies below the best choice in the roughest fields than in the smoothest."""
    lengths = sorted(found.distinct("recall.length"))
    rough, smooth = (
        {seed: found.by("recall.recall", "seed", arm="oracle", length=length)[seed] - value
         for seed, value in found.by("recall.recall", "seed", arm="draft", length=length).items()}
        for length in (lengths[0], lengths[-1])
    )  # fmt: skip
    return t_interval([rough[seed] - smooth[seed] for seed in rough])


def within(column: str, sign: str) -> Claim:
    """A bound holds in every field."""
    said = {"blocks": "regions in the place of tokens", "dropped": "dropping what the draft drops"}[column]

    def worst(found: Results) -> float:
        return max(found.values(f"bounds.{column}", sign=sign.split()[0]))

    def measure(found: Results) -> Interval:
        return Interval(low=1 - worst(found), mid=1 - worst(found), high=1 - worst(found), n=1)

    return Claim(
        text=f"{said}: the bound holds for scores of {sign}", measure=measure,
        evidence=lambda found: f"at most {worst(found):.2f} of it",
    )  # fmt: skip


def nearer(arm: str, skip: float) -> Claim:
    """The draft's pictures are nearer to dense ones than an arm's, at 80 % sparsity."""
    after = "from the first step on" if skip == 0 else f"after {100 * skip:.0f} % dense steps"

    def measure(found: Results) -> Interval:
        (row,) = found.rows("orders", arm=arm, sparsity=found.settings["sparsities"][1], skip=skip)
        return interval(row["gap"], found.settings["captions"])

    return Claim(text=f"at 80 % sparsity {after} the draft is nearer to dense pictures than '{arm}' (dB)",
                 measure=measure, digits=2)  # fmt: skip


FIELD_CLAIMS = (
    order("regions by their true attention hold more of it than those of the draft", "oracle", "draft"),
    order("those of the draft hold more than those of pooled maxima", "draft", "maxima"),
    order("those of pooled maxima hold more than random ones", "maxima", "random"),
    Claim(text="the draft falls less behind the best choice in smooth fields", measure=narrowing),
)
BOUND_CLAIMS = (
    within("blocks", "either sign"), within("dropped", "positive sign"), within("dropped", "either sign"),
)  # fmt: skip
PICTURE_CLAIMS = tuple(nearer(arm, skip) for skip in (0.0, 0.25) for arm in ("band", "random"))


def recall_table(results: Results, figures: Figures) -> str:
    """A line for each length and sparsity, means over seeds."""
    names = results.distinct("recall.arm")
    rows = [
        {"length": length, "sparsity": sparsity}
        | {arm: results.by("recall.recall", "length", arm=arm, sparsity=sparsity)[length] for arm in names}
        for length in results.distinct("recall.length") for sparsity in results.distinct("recall.sparsity")
    ]  # fmt: skip
    shown = Results(device="", date="", versions={}, settings={}, tables={"shown": rows})
    cells = {"length": "{length:g}", "sparsity": "{sparsity:.0%}"} | {arm: f"{{{arm}:.3f}}" for arm in names}
    return RowTable(table="shown", cells=cells)(shown, figures)


TOUCHED = RowTable(
    table="touched",
    cells={
        "patch": "{rows} x {columns}",
        "tokens of a block": "{size}",
        "pairs kept": "{kept:.3f}",
        "blocks, raster": "{raster:.3f}",
        "blocks, sorted by region": "{sorted:.3f}",
    },
    where={"seed": 0},
)


def spanned(found: Ends | None, digits: int) -> str:
    """A mean with its interval."""
    return "same" if found is None else f"{found[1]:.{digits}f} [{found[0]:.{digits}f}, {found[2]:.{digits}f}]"


def picture_table(results: Results, figures: Figures) -> str:
    """A line for each arm."""
    cells = {
        "attention": "{arm}",
        "sparsity": "{sparsity:.0%}",
        "dense steps": "{skip:.0%}",
        "pairs": "{pairs:.3f}",
        "PSNR to dense": lambda row: spanned(row["psnr"], 1),
        "captions kept": lambda row: spanned(row["kept"], 2),
    }
    return RowTable(table="pictures", cells=cells)(results, figures)


COST = RowTable(
    table="cost",
    cells={
        "tokens": "{tokens:,}",
        "heads": "{heads}",
        "sparsity": "{sparsity:.0%}",
        "kernel": "{kernel}",
        "choosing, s": "{choosing:.3f}",
        "and preparing, s": "{both:.3f}",
        "and attending, s": "{sparse:.2f}",
        "dense, s": "{dense:.2f}",
        "chosen and prepared, of dense": lambda row: f"{row['both'] / row['dense']:.1%}",
    },
)
EXPERIMENT = Experiment(
    name="draft_attention",
    settings=Settings(),
    quick=Settings(
        seeds=(0, 1, 2), grid=(1, 8, 8), pool=(2, 2), lengths=(1.0, 2.0), shares=(0.5, 0.9), columns=8,
        large=(1, 16, 32), side=8, captions=3, steps=2, cell=(2, 2), timed=(1, 32, 32), heads=1,
    ),
    hours=0.1,
    sections={
        "recall": (
            Lines(source="recall.recall", x="sparsity", panels="length", name="recall", label="attention found",
                  about="Share of dense attention found, by sparsity, for three lengths of the low-pass"),
            recall_table, Verdicts(FIELD_CLAIMS, differences=True),
        ),
        "bounds": (Verdicts(BOUND_CLAIMS, differences=True),),
        "touched": (TOUCHED,),
        "pictures": (picture_table, Verdicts(PICTURE_CLAIMS, differences=True)),
        "cost": (COST,),
    },
    claims=(*FIELD_CLAIMS, *BOUND_CLAIMS, *PICTURE_CLAIMS),
)  # fmt: skip


@EXPERIMENT.part(per_seed=True)
def recall(bench: Bench[Settings]) -> Iterable[Row]:
    """Of dense attention in smooth fields."""
    said = bench.settings
    for length in said.lengths:
        yield from of_fields.recalls(
            said.grid, said.pool, length, said.shares, said.columns, said.sharpness, bench.seed
        )


@EXPERIMENT.part(per_seed=True)
def bounds(bench: Bench[Settings]) -> Iterable[Row]:
    """Errors over what the theorems allow, at 80 % sparsity."""
    said = bench.settings
    for length in said.lengths:
        yield from of_fields.bounds(said.grid, said.pool, length, 0.8, said.columns, bench.seed)


@EXPERIMENT.part(per_seed=True)
def touched(bench: Bench[Settings]) -> Iterable[Row]:
    """Blocks with and without sorting, at 90 % sparsity."""
    said = bench.settings
    for pool in (said.pool, said.patch):
        for size in (16, 128):
            yield of_fields.touched(said.large, pool, said.lengths[-1], 0.9, size, bench.seed)


@EXPERIMENT.part(tables=True)
def pictures(bench: Bench[Settings]) -> Iterable[Row]:
    """Of the bundled model."""
    said = bench.settings
    layout = Layout.joint(text=zero_shot.TEXT, grid=(1, said.side, said.side))
    every = list(arms(layout, said.cell, said.sparsities, said.skips))

    def watched() -> Iterable[zero_shot.Arm]:
        for done, arm in enumerate(every):
            bench.progress(done, len(every), f"{arm.label}, {arm.sparsity:.0%}")
            yield arm

    pipe = shared_pipeline(said.model)
    return zero_shot.pictures(pipe, said.side, watched(), captions=said.captions, steps=said.steps)


@EXPERIMENT.part()
def cost(bench: Bench[Settings]) -> Iterable[Row]:
    """Of one call."""
    said = bench.settings
    yield zero_shot.cost(said.timed, said.patch, 0.9, said.heads, 64)
