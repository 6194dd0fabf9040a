"""DreamRelation: what its parts add when a small model learns to let two things approach and part again.

similarity  subspaces of the projections of the bundled models: are queries and keys more alike than either and values?
relations   a small video model, trained on random motions, learns a relation it never saw from ten videos of a red
            circle and a blue square, and is asked for it between other things: plain LoRA, the triplet, with masks,
            with the contrast, and with relation and subjects swapped; judged from tracked centres
Expected: each part raises the share of videos that show the relation, and lowers what leaks of the exemplars' colours.
Undecided here: what a vision-language model, CLIP and FVD say of videos of people and animals.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Results, Row, Verdicts
from saccade.experiments.claims import difference, higher
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.dreamrelation.figures import plot_masks, plot_similarity
from saccade.papers.dreamrelation.placement import Placement
from saccade.papers.dreamrelation.small_model import SmallVideos
from saccade.papers.dreamrelation.small_run import Arm, SmallRun, similarity_rows

NONE, PLAIN, TRIPLET, MASKS, FULL, SWAPPED = "no training", "plain LoRA", "triplet", "with masks", "full", "swapped"
ARMS: dict[str, Arm | None] = {
    NONE: None,
    PLAIN: Arm(placement=Placement(relation="qkv", subject=""), masks=False, contrast=False),
    TRIPLET: Arm(masks=False, contrast=False),
    MASKS: Arm(contrast=False),
    FULL: Arm(),
    SWAPPED: Arm(placement=Placement(relation="v", subject="qk")),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of both parts; `rank` of the subspaces, a sixth of the smaller model's width."""

    models: tuple[str, ...] = ("scenes-wan", "scenes-flux")
    rank: int = 16
    seeds: tuple[int, ...] = (0, 1, 2)
    run: SmallRun = field(default_factory=SmallRun)


def alike(found: Results, other: str) -> Interval:
    """By how much Q and K are more alike than another pair, site by site."""
    return difference(found, "similarity.similarity", "q-k", other, "site")


def less(text: str, arm: str, *, than: str) -> Claim:
    """An arm leaks less."""
    return Claim(text=text, measure=lambda found: difference(found, "relations.leaked", than, arm), digits=2)


def trained(found: Results) -> Interval:
    """By how much the full method shows the relation more often than the model did before, video by video."""
    before, after = (found.values("relations.success", arm=arm) for arm in (NONE, FULL))
    return t_interval([b - a for a, b in zip(before, after, strict=True)])


CLAIMS = (
    Claim(text="queries and keys span more alike subspaces than queries and values",
          measure=lambda found: alike(found, "q-v"), digits=3),
    Claim(text="and than keys and values", measure=lambda found: alike(found, "k-v"), digits=3),
    Claim(text="the full method shows the relation more often than no training", measure=trained, digits=2),
    higher("the triplet shows it more often than plain LoRA", "relations.success", TRIPLET, than=PLAIN, digits=2),
    higher("masks add to that", "relations.success", MASKS, than=TRIPLET, digits=2),
    higher("the contrast adds to that", "relations.success", FULL, than=MASKS, digits=2),
    higher("the relation belongs to queries and keys", "relations.success", FULL, than=SWAPPED, digits=2),
    less("the triplet leaks less of the exemplars' colours than plain LoRA", TRIPLET, than=PLAIN),
    less("the full method too", FULL, than=PLAIN),
)  # fmt: skip
SHOWN = {
    "success": "shows the relation",
    "seen": "frames with both things",
    "leaked": "exemplars' colours",
}
SECTIONS = {
    "masks": (plot_masks,),
    "similarity": (
        plot_similarity,
        ArmTable(
            columns=(Column(source="similarity.similarity", title="similarity", show=".3f"),
                     Column(source="similarity.random", title="random", show=".3f")),
            of="similarity.arm", title="pair",
        ),
        Note("The first {rank} left singular vectors, over all joint and self-attention of the bundled models."),
    ),
    "relations": (
        ArmTable(
            columns=tuple(Column(source=f"relations.{k}", title=v, show=".2f") for k, v in SHOWN.items()),
            of="relations.arm",
        ),
        Note("Shares, over the videos of unseen things of three seeds; one first training for all of them."),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}  # fmt: skip
EXPERIMENT = Experiment(
    name="dreamrelation",
    settings=Settings(),
    quick=Settings(
        models=("scenes-wan",), rank=4, seeds=(0, 1),
        run=SmallRun(
            size=SmallVideos(layers=1, heads=2), pretrain=2, rows=2, pool=4, count=2, steps=2, batch=1, asked=2,
            sampling=2,
        ),
    ),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part()
def similarity(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each pair, site and model."""
    for done, model in enumerate(bench.settings.models):
        bench.progress(done, len(bench.settings.models), model)
        yield from similarity_rows(model, bench.settings.rank)


@EXPERIMENT.part(per_seed=True)
def relations(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and video; the first training is made by the first seed, and read by the others."""
    run = bench.settings.run
    transformer = run.base(bench.work / "base")
    for done, (name, arm) in enumerate(ARMS.items()):
        bench.progress(done, len(ARMS), name)
        folder = bench.work / f"{bench.seed}-{done}"
        yield from ({"arm": name} | row for row in run.rows_of(transformer, arm, bench.seed, folder))
