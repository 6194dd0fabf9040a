"""ULSAM in a small MobileNetV2: beside a late block, in its place, and the block left out; and a ViT of equal cost.

CIFAR-10 at 16 pixels. The block is layer 14, which works on 4 x 4 positions here.
Expected: in place of the block it does better than nothing in its place, hardly worse than the block, and better with
four groups than with one; beside the block it helps; groups look at different places.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from saccade.data.labelled import Source, open_source
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
    above,
    higher,
)
from saccade.experiments.claims import difference
from saccade.experiments.classifier import classified, scores
from saccade.metrics.intervals import Interval, affine
from saccade.models import ViT
from saccade.models.macs import macs
from saccade.models.sizing import Arm, parameters, sized
from saccade.papers.ulsam.map_statistics import map_statistics
from saccade.papers.ulsam.model import ULSAMMobileNet
from saccade.papers.ulsam.subspace_attention import ULSAM
from saccade.train.classifier import ClassifierStage
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim

LAYER = 14
BLOCK, ADDED, ONE, FOUR, LEFT_OUT, VIT = (
    "the block", "block and ULSAM, 4 groups", "ULSAM, 1 group", "ULSAM, 4 groups", "nothing", "ViT",
)  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    BLOCK: {},
    ADDED: {"added": (LAYER,)},
    ONE: {"instead": (LAYER,), "groups": 1},
    FOUR: {"instead": (LAYER,)},
    LEFT_OUT: {},
    VIT: {},
}
NEAR, APART = 0.03, 0.5  # accuracy that may be lost; cosine of maps that are called different


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the trainings.

    source, side   of the pictures; multiplier, stride: of the MobileNets
    pictures   held out, which are classified; shown: of these, whose maps are kept
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    source: str = "cifar10"
    side: int = 16
    multiplier: float = 0.35
    stride: int = 8
    steps: int = 150
    batch: int = 32
    rate: float = 4e-3
    pictures: int = 2000
    shown: int = 4


def near(found: Results) -> Interval:
    """How much less than `NEAR` of accuracy the substitution costs."""
    return affine(difference(found, "arms.accuracy", BLOCK, FOUR), -1, NEAR)


def unlike(found: Results) -> Interval:
    """How far below `APART` the likeness of maps lies."""
    return above("", "arms.unlike", 1 - APART, arm=FOUR).measure(found)


CLAIMS = (
    higher("in place of the block ULSAM has a lower loss than nothing", "arms.loss", LEFT_OUT, than=FOUR),
    Claim(text=f"in place of the block it costs less than {NEAR:.0%} of accuracy", measure=near, digits=3),
    higher("four groups have a lower loss than one", "arms.loss", ONE, than=FOUR),
    higher("beside the block it lowers the loss", "arms.loss", BLOCK, than=ADDED),
    Claim(text=f"maps of four groups differ: their mean cosine is below {APART}", measure=unlike, digits=2),
    higher("in place of the block it has a lower loss than a ViT of equal cost", "arms.loss", VIT, than=FOUR),
)
COLUMNS = (
    Column(source="arms.parameters", title="parameters", show=",d", first=True),
    Column(source="arms.macs", title="thousand multiply-adds", show=lambda count: f"{count / 1e3:,.0f}", first=True),
    Column(source="arms.loss", title="loss", show=".3f"),
    Column(source="arms.loss", title="above the block's", show=".3f", against=BLOCK),
    Column(source="arms.accuracy", title="accuracy", show=".1%"),
    Column(source="arms.entropy", title="entropy of maps", show=".3f"),
    Column(source="arms.uniform", title="uniform maps", show=".1%"),
)


def maps(results: Results, figures: Figures) -> str:
    """What the four groups of the first seed's substituted module look at, in some held-out pictures."""
    rows = results.rows("maps", seed=results.rows("maps")[0]["seed"])
    figure = Figure(figsize=(6.4, 1.35 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]["maps"]), squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        for group, (axes, values) in enumerate(zip(line, row["maps"], strict=True)):
            side = int(len(values) ** 0.5)
            axes.imshow(np.reshape(values, (side, side)), cmap="viridis", vmin=0)
            axes.set(xticks=(), yticks=(), title=f"group {group + 1}" if row["picture"] == 0 else "")
        line[0].set_ylabel(row["label"], fontsize=8)
    return figures.save("maps", figure, "Maps of four groups in held-out pictures, one picture a line")


EXPERIMENT = Experiment(
    name="ulsam",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), source="scenes", multiplier=0.1, steps=2, batch=4, pictures=16, shown=2,
    ),
    hours=0.1,
    sections={
        "arms": (
            ArmTable(columns=COLUMNS, of="arms.arm", title="at layer 14"),
            Verdicts(CLAIMS, True),
            Note(
                "MobileNetV2 of {multiplier} of the widths, stride {stride}; {source} at {side} pixels, {steps} steps "
                "of {batch} pictures by AdamW at {rate}, {pictures} held-out pictures."
            ),
        ),
        "maps": (maps,),
    },
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part(per_seed=True, tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm on the same batches; maps of the one that stands in the block's place."""
    source = pictures_of(bench.settings)
    for number, arm in enumerate(ARMS):
        bench.progress(number, len(ARMS), arm)
        torch.manual_seed(bench.seed)
        stage = stage_of(bench.settings, bench.seed)
        folder = bench.work / f"{arm.replace(' ', '-').replace(',', '')}-{bench.seed}"
        model = classified(made(arm, bench.settings, source), source, stage, folder)
        yield {"table": "arms", "arm": arm} | measured(model, source, bench.settings)
        if arm == FOUR:
            yield from maps_of(model, source, bench.settings.shown)


@cache
def pictures_of(settings: Settings) -> Source:
    """The pictures; scenes are few, since only the quick form takes them."""
    options = {"label": "colour", "count": 64, "held": 32} if settings.source == "scenes" else {}
    return open_source(settings.source, settings.side, **options)


def stage_of(settings: Settings, seed: int) -> ClassifierStage:
    """How every arm is trained."""
    optim = Optim(kind="adamw", lr=settings.rate, warmup=0.05, cooldown=0.5)
    how = Fit(steps=settings.steps, seed=seed, precision="no", decay=0.95, save_every=settings.steps, optim=optim)
    return ClassifierStage(batch=settings.batch, shift=1, fit=how)


def made(arm: str, settings: Settings, source: Source) -> nn.Module:
    """An arm before its training."""
    options = {
        "multiplier": settings.multiplier, "stride": settings.stride, "channels": source.channels,
        "classes": source.classes,
    }  # fmt: skip
    model = ULSAMMobileNet(**options, **ARMS[arm])
    if arm == LEFT_OUT:
        model.blocks[LAYER - 2] = nn.Identity()
    return vit_like(model, source) if arm == VIT else model


def vit_like(model: ULSAMMobileNet, source: Source) -> ViT:
    """A ViT of about as many multiply-adds, its width varied."""
    base: dict[str, Any] = {"depth": 4, "heads": 2, "patch": 2, "side": source.side, "channels": source.channels}
    x = torch.zeros(1, source.channels, source.side, source.side)
    width = sized(
        Arm(name="ViT", model="ViT"), base | {"classes": source.classes}, lambda each: cost(each, x), cost(model, x)
    )
    return ViT(**base, classes=source.classes, width=width)


def cost(model: nn.Module, x: torch.Tensor) -> int:
    """Multiply-adds for one picture."""
    was = model.training
    found = macs(model.eval(), x)
    model.train(was)
    return found


def measured(model: nn.Module, source: Source, settings: Settings) -> Row:
    """What a trained arm is compared by; of one with ULSAM, what its maps are like."""
    x = torch.zeros(1, source.channels, source.side, source.side)
    found: Row = scores(model, source, settings.pictures)
    found |= {"parameters": parameters(model), "macs": cost(model, x)}
    if any(isinstance(part, ULSAM) for part in model.modules()):
        like = map_statistics(seen(model, source, settings.pictures))
        found |= {"entropy": like["entropy"], "uniform": like["uniform"]}
        found |= {"unlike": 1 - like["cosine"]} if like["cosine"] == like["cosine"] else {}
    return found


@torch.no_grad()
def seen(model: nn.Module, source: Source, pictures: int) -> torch.Tensor:
    """Maps of the only ULSAM of a model in held-out pictures."""
    (module,) = (part for part in model.modules() if isinstance(part, ULSAM))
    found: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, args: found.append(module.maps(args[0])))
    for part in source.held_out(pictures)[0].split(256):
        model(part)
    hook.remove()
    return torch.cat(found)


def maps_of(model: nn.Module, source: Source, count: int) -> Iterable[Row]:
    """Of the first held-out pictures, rounded to what a picture shows."""
    labels = source.held_out(count)[1].tolist()
    for number, (label, groups) in enumerate(zip(labels, seen(model, source, count), strict=True)):
        values = [[round(value, 4) for value in each.flatten().tolist()] for each in groups]
        yield {"table": "maps", "picture": number, "label": source.names[label], "maps": values}
