"""PATNet built up step by step at one cost, two of its choices undone, a ViT of equal cost; and blocks on the clock.

CIFAR-10, enlarged to 64 pixels before the network so that its last stage has 2 x 2 positions. Arms with fewer parts
have wider feed-forwards, for about as many multiply-adds.
Expected: each part lowers the loss; a gate by mean and deviation does better than by the mean; attention on all
channels brings little; a block of partial convolution is faster than a depthwise one of equal cost.
"""

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data.labelled import Source, open_source
from saccade.experiments import (
    ArmTable,
    Bench,
    Claim,
    Column,
    Experiment,
    Lines,
    Note,
    Results,
    Row,
    RowTable,
    Verdicts,
    higher,
)
from saccade.experiments.claims import difference
from saccade.experiments.classifier import classified, scores
from saccade.metrics.intervals import Interval, affine
from saccade.metrics.stopwatch import in_turn
from saccade.models import ViT
from saccade.models.macs import macs
from saccade.models.sizing import Arm, parameters, sized
from saccade.papers.patnet import control_mixers as control_mixers  # the mixers by their names
from saccade.papers.patnet.model import PATNet
from saccade.papers.patnet.partial import PartialConv
from saccade.papers.patnet.spatial import PATMlp
from saccade.train.classifier import ClassifierStage
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim

PCONV, CHANNEL, SPATIAL, SELF = "PConv", "and PAT_ch", "and PAT_sp", "and PAT_sf: PATNet"
MEAN, WHOLE, VIT = "PATNet, gate by the mean", "PATNet, gate on all channels", "ViT"
THREE = ("pat_ch",) * 3
ARMS: dict[str, dict[str, Any]] = {
    PCONV: {"mixers": ("pconv",) * 4, "spatial": False, "ratio": 2.375},
    CHANNEL: {"mixers": (*THREE, "pconv"), "spatial": False, "ratio": 2.375},
    SPATIAL: {"mixers": (*THREE, "pconv"), "ratio": 2.25},
    SELF: {},
    MEAN: {"mixers": ("pat_ch_mean",) * 3 + ("pat_sf",)},
    WHOLE: {"mixers": ("pat_ch_whole",) * 3 + ("pat_sf",)},
    VIT: {},
}
LITTLE = 0.02  # accuracy
ENLARGED = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the trainings, and of the timing.

    source, side    of the pictures, which are enlarged twice
    width, depths, pooled   of the networks
    pictures        held out, which are classified
    timed, cells, rounds   widths of the blocks that are timed, on maps of so many cells a side
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    source: str = "cifar10"
    side: int = 32
    width: int = 16
    depths: tuple[int, ...] = (1, 1, 2, 1)
    pooled: int = 256
    steps: int = 250
    batch: int = 32
    rate: float = 3e-3
    pictures: int = 2000
    timed: tuple[int, ...] = (64, 128)
    cells: int = 28
    rounds: int = 15


def whole_brings_little(found: Results) -> Interval:
    """How much less than `LITTLE` of accuracy a gate on all channels brings."""
    return affine(difference(found, "arms.accuracy", WHOLE, SELF), -1, LITTLE)


def faster(found: Results) -> Interval:
    """Quartiles of the least gain of a PConv block over a depthwise one, above 1."""
    row = min(found.rows("speed"), key=lambda row: row["faster"])
    return Interval(
        low=row["low"] - 1, mid=row["faster"] - 1, high=row["high"] - 1, n=found.settings["rounds"]
    )  # fmt: skip


CLAIMS = (
    higher("PAT_ch lowers the loss", "arms.loss", PCONV, than=CHANNEL),
    higher("PAT_sp lowers it further", "arms.loss", CHANNEL, than=SPATIAL),
    higher("PAT_sf in the last stage lowers it further", "arms.loss", SPATIAL, than=SELF),
    higher("PATNet has a lower loss than partial convolutions alone", "arms.loss", PCONV, than=SELF),
    higher("a gate by mean and deviation has a lower loss than one by the mean", "arms.loss", MEAN, than=SELF),
    Claim(
        text=f"a gate on all channels brings less than {LITTLE:.0%} of accuracy",
        measure=whole_brings_little,
        digits=3,
    ),
    higher("PATNet has a lower loss than a ViT of equal cost", "arms.loss", VIT, than=SELF),
)
FASTER = Claim(text="a PConv block is faster than a depthwise one of equal cost", measure=faster, digits=2)
COLUMNS = (
    Column(source="arms.parameters", title="parameters", show=",d", first=True),
    Column(source="arms.macs", title="thousand multiply-adds", show=lambda count: f"{count / 1e3:,.0f}", first=True),
    Column(source="arms.loss", title="loss", show=".3f"),
    Column(source="arms.loss", title="above PConv's", show=".3f", against=PCONV),
    Column(source="arms.accuracy", title="accuracy", show=".1%"),
)
SPEED = RowTable(
    table="speed",
    cells={
        "width": "{width}",
        "thousand multiply-adds, PConv": lambda row: f"{row['pconv_macs'] / 1e3:,.0f}",
        "depthwise": lambda row: f"{row['depthwise_macs'] / 1e3:,.0f}",
        "ms, PConv": "{pconv_ms:.2f}",
        "depthwise ": "{depthwise_ms:.2f}",
        "PConv is faster by": "{faster:.2f} ({low:.2f} to {high:.2f})",
    },
)
EXPERIMENT = Experiment(
    name="patnet",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), source="scenes", steps=2, batch=4, pictures=16, depths=(1, 0, 1, 1), pooled=8, timed=(16,), cells=4,
        rounds=2,
    ),
    hours=0.1,
    sections={
        "arms": (
            ArmTable(columns=COLUMNS, of="arms.arm", title="network"),
            Verdicts(CLAIMS, True),
            Lines(
                source="curve.loss", x="step", name="curves", label="training loss, nats",
                about="Training loss of every network, means over seeds",
            ),
            Note(
                "Width {width}, depths {depths}; {source} at {side} pixels enlarged twice, {steps} steps of {batch} "
                "pictures by AdamW at {rate}, {pictures} held-out pictures."
            ),
        ),
        "speed": (SPEED, Verdicts((FASTER,), True), Note("Medians and quartiles of {rounds} rounds in turn; maps of "
                  "{cells} x {cells}, 4 pictures.")),
    },
    claims=(*CLAIMS, FASTER),
)  # fmt: skip


@EXPERIMENT.part()
def speed(bench: Bench[Settings]) -> Iterable[Row]:
    """Forwards of the two blocks in turn: medians, and quartiles of the ratio within a round."""
    settings = bench.settings
    for number, width in enumerate(settings.timed):
        bench.progress(number, len(settings.timed), f"width {width}")
        x = torch.randn(4, width, settings.cells, settings.cells)
        blocks = {"pconv": pconv_block(width), "depthwise": depthwise_block(width, x)}
        seconds = in_turn({name: partial(run, block, x) for name, block in blocks.items()}, settings.rounds)
        pairs = zip(seconds["pconv"], seconds["depthwise"], strict=True)
        low, middle, high = statistics.quantiles([depthwise / pconv for pconv, depthwise in pairs], n=4)
        yield {
            "width": width, "faster": middle, "low": low, "high": high,
            **{f"{name}_ms": 1e3 * statistics.median(seconds[name]) for name in blocks},
            **{f"{name}_macs": macs(block, x[:1]) for name, block in blocks.items()},
        }  # fmt: skip


def pconv_block(width: int) -> nn.Module:
    """FasterNet's block without its residual."""
    return nn.Sequential(PartialConv(width), PATMlp(width, act="relu", spatial=False)).eval()


def depthwise_block(width: int, x: Tensor) -> nn.Module:
    """The same with a depthwise convolution, its feed-forward widened to the same cost."""

    def block(hidden: int) -> nn.Module:
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        return nn.Sequential(depthwise, PATMlp(width, act="relu", spatial=False, ratio=hidden / width)).eval()

    wanted = macs(pconv_block(width), x)
    return min((block(hidden) for hidden in range(2 * width, 3 * width)), key=lambda each: abs(macs(each, x) - wanted))


@torch.no_grad()
def run(block: nn.Module, x: Tensor) -> None:
    """A forward."""
    block(x)


@EXPERIMENT.part(per_seed=True, tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm on the same batches, and some points of its curve."""
    settings, source = bench.settings, pictures_of(bench.settings)
    for number, arm in enumerate(ARMS):
        bench.progress(number, len(ARMS), arm)
        torch.manual_seed(bench.seed)
        folder = bench.work / f"{number}-{bench.seed}"
        model = classified(made(arm, settings, source), source, stage_of(settings, bench.seed), folder)
        x = torch.zeros(1, source.channels, source.side, source.side)
        found = scores(model, source, settings.pictures)
        yield {"table": "arms", "arm": arm} | found | {"parameters": parameters(model), "macs": macs(model, x)}
        yield from ({"table": "curve", "arm": arm} | point for point in curve(folder))


@cache
def pictures_of(settings: Settings) -> Source:
    """The pictures; scenes are few, since only the quick form takes them."""
    options = {"label": "colour", "count": 64, "held": 32} if settings.source == "scenes" else {}
    return open_source(settings.source, settings.side, **options)


def stage_of(settings: Settings, seed: int) -> ClassifierStage:
    """How every arm is trained."""
    optim = Optim(kind="adamw", lr=settings.rate, warmup=0.05, cooldown=0.5)
    how = Fit(
        steps=settings.steps, seed=seed, precision="no", decay=0.95, save_every=settings.steps,
        log_every=max(1, settings.steps // 10), optim=optim,
    )  # fmt: skip
    return ClassifierStage(batch=settings.batch, shift=2, fit=how)


def made(arm: str, settings: Settings, source: Source) -> nn.Module:
    """An arm before its training."""
    options = {
        "width": settings.width, "depths": settings.depths, "pooled": settings.pooled, "channels": source.channels,
        "classes": source.classes,
    }  # fmt: skip
    model = nn.Sequential(nn.Upsample(scale_factor=ENLARGED, mode="bilinear"), PATNet(**options, **ARMS[arm]))
    return vit_like(model, source) if arm == VIT else model


def vit_like(model: nn.Module, source: Source) -> ViT:
    """A ViT of about as many multiply-adds, its width varied."""
    base: dict[str, Any] = {"depth": 4, "heads": 2, "patch": 4, "side": source.side, "channels": source.channels}
    x = torch.zeros(1, source.channels, source.side, source.side)
    wanted = macs(model.eval(), x)
    width = sized(
        Arm(name="ViT", model="ViT"), base | {"classes": source.classes}, lambda each: macs(each.eval(), x), wanted
    )
    return ViT(**base, classes=source.classes, width=width)


def curve(folder: Path) -> Iterable[Row]:
    """Points of a training's curve."""
    for line in (folder / "loss.jsonl").read_text().splitlines():
        point = json.loads(line)
        yield {"step": point["step"], "loss": point["loss"]}
