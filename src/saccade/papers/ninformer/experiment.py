"""NiNformer at toy size: its gate against attention and static mixing, and against gates that are less.

Classifiers of CIFAR-10 at 16 x 16 pixels, a token for 4 x 4 of them, of one width and depth, without dropout; two
baselines also as wide as to have NiNformer's parameters.
Expected: NiNformer is the most accurate; a bounded gate, a static one and tokens without a projection are less so; a
forward takes longer than MLP-Mixer's.
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from saccade.data.labelled import Pictures
from saccade.experiments import ArmTable, Bench, Column, Experiment, Figures, Note, Results, Row, Verdicts, higher
from saccade.experiments.classifier import classified, open_pictures, scores
from saccade.metrics.stopwatch import in_turn
from saccade.models.macs import macs
from saccade.models.sizing import Arm, build, parameters, sized
from saccade.train.classifier import ClassifierStage
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.ui.markdown import markdown_table

OURS, VIT, MIXER, LOCAL = "NiNformer", "ViT", "MLP-Mixer", "Local-ViT"
WIDE_VIT, WIDE_MIXER = "ViT, wider", "MLP-Mixer, wider"
SIGMOID, STATIC, BARE = "gate through a sigmoid", "static gate", "no projection"
ARMS = {  # arm -> model as text
    OURS: "NiNformer()",
    VIT: 'ViT(ffn="mlp(ratio=2, tanh=False)")',
    MIXER: 'ViT(mixer="token_mlp", ffn="mlp(ratio=2, tanh=False)")',
    LOCAL: 'ViT(ffn="local_mlp(ratio=2)")',
    WIDE_VIT: 'ViT(ffn="mlp(ratio=2, tanh=False)")',
    WIDE_MIXER: 'ViT(mixer="token_mlp", ffn="mlp(ratio=2, tanh=False)")',
    SIGMOID: 'NiNformer(activation="sigmoid")',
    STATIC: 'NiNformer(gate="static")',
    BARE: "NiNformer(projection=False)",
}
WIDE = (WIDE_VIT, WIDE_MIXER)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the trainings, and of the timing.

    source    of the pictures, as `open_source` takes it; `side` of a picture, `patch` of a token
    shift     pixels that a picture moves at most while training; half of them are mirrored
    pictures  held-out ones that are labelled
    rounds    of the timing, each with `timed` pictures
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    source: str = "cifar10"
    side: int = 16
    patch: int = 4
    depth: int = 3
    width: int = 64
    heads: int = 4
    steps: int = 300
    batch: int = 64
    rate: float = 1e-3
    shift: int = 2
    pictures: int = 4000
    rounds: int = 25
    timed: int = 64


COLUMNS = (
    Column(source="arms.width", title="width", show=".0f"),
    Column(source="arms.parameters", title="parameters", show=",.0f"),
    Column(source="arms.macs", title="million multiply-adds", show=lambda value: f"{value / 1e6:.2f}"),
    Column(source="arms.loss", title="loss", show=".3f"),
    Column(source="arms.accuracy", title="accuracy", show=".3f"),
    Column(source="arms.accuracy", title="above NiNformer's", show=".3f", against=OURS),
)
BASELINES = tuple(
    higher(f"NiNformer is more accurate than {name}", "arms.accuracy", OURS, than=name, digits=3)
    for name in (VIT, MIXER, LOCAL, WIDE_VIT, WIDE_MIXER)
)
PARTS = tuple(
    higher(f"{name} costs accuracy", "arms.accuracy", OURS, than=name, digits=3) for name in (SIGMOID, STATIC, BARE)
)


def options(settings: Settings, source: Pictures) -> dict[str, Any]:
    """What every model is given, where it has it."""
    sizes = {name: getattr(settings, name) for name in ("depth", "width", "heads", "patch")}
    of_source = {"side": source.side, "channels": source.channels, "classes": source.classes}
    return {**sizes, **of_source, "hidden": 2 * settings.width, "dropout": 0.0}


def model(arm: str, settings: Settings, source: Pictures) -> nn.Module:
    """One arm, untrained; a wide one as wide as to come nearest to NiNformer's parameters."""
    base = options(settings, source)
    if arm in WIDE:
        goal = parameters(build(ARMS[OURS], **base))
        base["width"] = sized(Arm(name=arm, model=ARMS[arm], step=settings.heads), base, parameters, goal)
    return build(ARMS[arm], **base)


def accuracy_plot(results: Results, figures: Figures) -> str:
    """A row for each model, a point for each seed."""
    names = results.distinct("arms.arm")
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for row, arm in enumerate(names):
        values = results.values("arms.accuracy", arm=arm)
        axes.plot(values, [row] * len(values), "o", markersize=4, color="C0" if arm == OURS else "C7")
        axes.plot([statistics.fmean(values)], [row], "|", markersize=16, color="C0" if arm == OURS else "C7")
    axes.set(xlabel="accuracy on held-out pictures", yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()
    return figures.save("accuracy", figure, "Accuracy of every model, a point for each seed and a line at their mean")


def speed_table(results: Results, figures: Figures) -> str:
    """A line for each model that is timed."""
    rows = (
        [row["arm"], f"{row['ms']:.1f}", f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"]
        for row in results.rows("speed")
    )
    return markdown_table(["model", "ms", "times MLP-Mixer's"], rows)


EXPERIMENT = Experiment(
    name="ninformer",
    settings=Settings(),
    quick=Settings(seeds=(0,), source="scenes", steps=2, batch=4, depth=1, width=8, pictures=32, rounds=2, timed=4),
    hours=0.3,
    sections={
        "arms": (
            accuracy_plot,
            ArmTable(columns=COLUMNS, of="arms.arm", title="model"),
            Verdicts(BASELINES + PARTS, True),
            Note(
                "Pictures of {source}, {side} x {side} pixels in patches of {patch}: {steps} steps of {batch} at a "
                "rate of {rate:g}, accuracy on {pictures} held-out pictures; depth {depth}."
            ),
        ),
        "speed": (speed_table, Note("Medians of {rounds} forwards of {timed} pictures, in turn, with quartiles.")),
    },
    claims=BASELINES + PARTS,
)


@EXPERIMENT.part(per_seed=True)
def arms(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm from scratch."""
    settings = bench.settings
    source = open_pictures(settings.source, settings.side, bench.work)
    for number, arm in enumerate(ARMS):
        bench.progress(number, len(ARMS), arm)
        torch.manual_seed(bench.seed)
        made = model(arm, settings, source)
        classified(made, source, stage(settings, bench.seed), bench.work / f"{number}-{bench.seed}")
        yield {"arm": arm, **scores(made, source, settings.pictures), **size(made, source)}


def stage(settings: Settings, seed: int) -> ClassifierStage:
    """Adam at one rate, as the paper trains."""
    how = Fit(
        steps=settings.steps, seed=seed, precision="no", decay=0.98, save_every=settings.steps,
        optim=Optim.constant(settings.rate),
    )  # fmt: skip
    return ClassifierStage(fit=how, batch=settings.batch, shift=settings.shift)


def size(made: Any, source: Pictures) -> Row:
    """What a model costs."""
    x = torch.zeros(1, source.channels, source.side, source.side)
    return {"width": made.config.width, "parameters": parameters(made), "macs": macs(made, x)}


@EXPERIMENT.part()
def speed(bench: Bench[Settings]) -> Iterable[Row]:
    """Forwards in turn: medians, and quartiles over rounds of the ratio to MLP-Mixer's."""
    settings = bench.settings
    source = open_pictures("scenes", settings.side, bench.work)
    x = source.held_out(settings.timed)[0]
    models = {arm: model(arm, settings, source).eval() for arm in (OURS, MIXER, VIT, LOCAL)}
    with torch.no_grad():
        seconds = in_turn({arm: partial(each, x) for arm, each in models.items()}, settings.rounds)
    yield from (timing(arm, seconds) for arm in models)


def timing(arm: str, seconds: Mapping[str, list[float]]) -> Row:
    """Of one model beside MLP-Mixer."""
    ratios = [one / other for one, other in zip(seconds[arm], seconds[MIXER], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"arm": arm, "ms": 1e3 * statistics.median(seconds[arm]), "ratio": middle, "low": low, "high": high}
