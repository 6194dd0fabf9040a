"""The minimal transformer at toy size: what feed-forwards and matrices are worth, on few pictures.

Eight variants learn a few thousand pictures of CIFAR-10 at 16 x 16 pixels, many times over, so that the number of
targets for each parameter, Q, lies on both sides of 1.
Expected: without feed-forwards accuracy falls by two points at most; the gap between the losses of unseen and of
trained pictures shrinks as Q grows; a shared projection for queries and keys has no higher loss than two.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from saccade.data.labelled import Pictures
from saccade.experiments import (
    ArmTable,
    Bench,
    Claim,
    Column,
    Experiment,
    Figures,
    Note,
    Results,
    Row,
    Verdicts,
    higher,
)
from saccade.experiments.claims import difference
from saccade.experiments.classifier import classified, few, open_pictures, scores, trained_on
from saccade.metrics.intervals import Interval, affine, t_interval
from saccade.models.sizing import parameters
from saccade.papers.minimal_transformer.model import MinimalTransformer, overdetermination
from saccade.train.classifier import ClassifierStage
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim

FULL, BARE, LEAST, SHARED = "unchanged + MLP", "unchanged", "wqk_novo", "symmetric/shared"
ARMS: dict[str, dict[str, Any]] = {
    FULL: {},
    "wqk + MLP": {"kind": "wqk"},
    "wqk_novo + MLP": {"kind": "wqk_novo"},
    BARE: {"use_mlp": False},
    SHARED: {"kind": "symmetric/shared", "use_mlp": False},
    "symmetric/cholesky": {"kind": "symmetric/cholesky", "use_mlp": False},
    "wqk": {"kind": "wqk", "use_mlp": False},
    LEAST: {"kind": "wqk_novo", "use_mlp": False},
}
POINTS = 0.02  # of accuracy that may be lost


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the trainings.

    source    of the pictures, as `open_source` takes it; `side` of a picture, `patch` of a token
    count     pictures that are trained on
    pictures  held-out ones that are labelled
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    source: str = "cifar10"
    side: int = 16
    patch: int = 4
    depth: int = 4
    width: int = 64
    count: int = 4000
    steps: int = 400
    batch: int = 64
    rate: float = 1e-3
    pictures: int = 4000


def rank_correlation(results: Results) -> Interval:
    """Of Q and gap over the arms, seed by seed; below zero where the gap shrinks."""
    found = []
    for seed in results.distinct("arms.seed"):
        rows = results.rows("arms", seed=seed)
        correlation: Any = spearmanr([row["q"] for row in rows], [row["gap"] for row in rows])
        found.append(float(correlation.statistic))
    return t_interval(found)


def within(arm: str, other: str) -> Claim:
    """That an arm's accuracy lies at most `POINTS` below another's."""
    return Claim(
        text=f"{arm} is at most two points less accurate than {other}",
        measure=lambda found: affine(difference(found, "arms.accuracy", arm, other), offset=POINTS),
        digits=3,
        evidence=lambda found: f"{difference(found, 'arms.accuracy', arm, other)}",
    )


CLAIMS = (
    within(BARE, FULL),
    within(LEAST, FULL),
    Claim(
        text="the gap shrinks as Q grows",
        measure=lambda found: affine(rank_correlation(found), -1.0),
        digits=2,
        evidence=lambda found: f"rank correlation {rank_correlation(found)}",
    ),
    higher("a shared projection lowers the loss", "arms.loss", BARE, than=SHARED, digits=3),
)
COLUMNS = (
    Column(source="arms.parameters", title="parameters", show=",.0f"),
    Column(source="arms.q", title="Q", show=".2f"),
    Column(source="arms.trained", title="loss, trained pictures", show=".3f"),
    Column(source="arms.loss", title="loss, held-out", show=".3f"),
    Column(source="arms.gap", title="gap", show=".3f"),
    Column(source="arms.accuracy", title="accuracy", show=".3f"),
    Column(source="arms.accuracy", title="above the full model's", show=".3f", against=FULL),
)


def gap_plot(results: Results, figures: Figures) -> str:
    """Gap over Q, a point for each seed."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for arm in results.distinct("arms.arm"):
        rows = results.rows("arms", arm=arm)
        marker = "s" if "MLP" in arm else "o"
        axes.plot([row["q"] for row in rows], [row["gap"] for row in rows], marker, markersize=4, label=arm)
    axes.set(xlabel="Q, targets for each parameter", ylabel="held-out loss less trained loss")
    axes.legend(fontsize=7)
    return figures.save("gap", figure, "Gap between losses over the number of targets for each parameter, by variant")


EXPERIMENT = Experiment(
    name="minimal_transformer",
    settings=Settings(),
    quick=Settings(seeds=(0,), source="scenes", steps=2, batch=4, depth=1, width=8, count=64, pictures=32),
    hours=0.3,
    sections={
        "arms": (
            gap_plot,
            ArmTable(columns=COLUMNS, of="arms.arm", title="variant"),
            Verdicts(CLAIMS, True),
            Note(
                "{count} pictures of {source}, {side} x {side} pixels in patches of {patch}: {steps} steps of {batch} "
                "at a rate of {rate:g}, {pictures} held-out pictures; width {width}, depth {depth}, one head."
            ),
        ),
    },
    claims=CLAIMS,
)


@EXPERIMENT.part(per_seed=True)
def arms(bench: Bench[Settings]) -> Iterable[Row]:
    """Every variant from scratch."""
    settings = bench.settings
    source = few(open_pictures(settings.source, settings.side, bench.work), settings.count)
    for number, arm in enumerate(ARMS):
        bench.progress(number, len(ARMS), arm)
        torch.manual_seed(bench.seed)
        made = model(arm, settings, source)
        classified(made, source, stage(settings, bench.seed), bench.work / f"{number}-{bench.seed}")
        yield {"arm": arm, **measured(made, source, settings)}


def model(arm: str, settings: Settings, source: Pictures) -> MinimalTransformer:
    """One arm, untrained."""
    return MinimalTransformer(
        depth=settings.depth, width=settings.width, side=source.side, patch=settings.patch, channels=source.channels,
        classes=source.classes, **ARMS[arm],
    )  # fmt: skip


def stage(settings: Settings, seed: int) -> ClassifierStage:
    """Adam at one rate and no augmentation, as the paper trains."""
    how = Fit(
        steps=settings.steps, seed=seed, precision="no", decay=0.98, save_every=settings.steps,
        optim=Optim.constant(settings.rate),
    )  # fmt: skip
    return ClassifierStage(fit=how, batch=settings.batch, shift=0, flip=False)


def measured(made: MinimalTransformer, source: Pictures, settings: Settings) -> Row:
    """Losses, and how many targets there are for each parameter."""
    unseen, count = scores(made, source, settings.pictures), parameters(made)
    trained = scores(made, trained_on(source), min(settings.pictures, settings.count))["loss"]
    with warnings.catch_warnings(action="ignore"):  # a Q below 1 is what is looked at
        q = overdetermination(settings.count, source.classes, count)
    return {"parameters": count, "q": q, **unseen, "trained": trained, "gap": unseen["loss"] - trained}
