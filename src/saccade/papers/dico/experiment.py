"""DiCo at toy size: what its channel gate gives, against none and against attention; its speed against a DiT's.

Small U's learn to predict the noise in 16 x 16 scenes, conditioned on their kind; the arm without a gate has wider
feed-forwards, so that it has as many parameters. The DiT that is timed in turn has as many multiply-adds at the
smallest side.
Expected: the gate lowers the loss and the share of channels that hardly fire; DiCo gains on DiT as pictures grow.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from saccade.data.labelled import SceneSource, open_scenes
from saccade.experiments import (
    ArmTable,
    Bench,
    Claim,
    Column,
    Experiment,
    Figures,
    Results,
    Row,
    Verdicts,
    higher,
)
from saccade.metrics.intervals import Interval
from saccade.metrics.machine import best_device
from saccade.metrics.stopwatch import in_turn
from saccade.models import DiT
from saccade.models.sizing import Arm, parameters, sized
from saccade.papers.dico.channels import channel_scores, redundancy
from saccade.papers.dico.model import DiCo, DiCoConfig
from saccade.train.costs import example, forward, multiply_adds
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import SMALLEST, evaluate
from saccade.train.loop import Fit, fit
from saccade.train.objectives import Ddpm
from saccade.train.optimisers import Optim
from saccade.ui.markdown import markdown_table

GATE, NO_GATE, ATTENTION = "gate", "no gate, wider feed-forwards", "attention in its place"
ARMS: dict[str, dict[str, Any]] = {
    GATE: {},
    NO_GATE: {"mixer": "dico(gate='none')", "ratio": 2.5},
    ATTENTION: {"mixer": "attention"},
}
TIMED: dict[str, Any] = {"channels": 4, "classes": 1000}  # options of what is timed
AGAINST = "DiT(depth=6, heads=4)"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the short trainings, and of the timing.

    pictures       held-out ones whose loss is measured
    scenes         rendered to train on; a quarter as many are held out
    width, depths  of the U's that are trained
    timed          width of the one that is timed, of the same depths, on inputs of `sides`
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    side: int = 16
    batch: int = 16
    steps: int = 300
    rate: float = 2e-3
    pictures: int = 1024
    scenes: int = 16384
    width: int = 32
    depths: tuple[int, ...] = (1, 1, 2, 1, 1)
    timed: int = 64
    sides: tuple[int, ...] = (32, 64)
    rounds: int = 25


def growth(results: Results) -> Interval:
    """How much more DiCo gains at the largest side than at the smallest; from quartiles over rounds to quartiles."""
    small, *_, large = results.rows("speed")
    return Interval(
        low=large["low"] - small["high"],
        mid=large["faster"] - small["faster"],
        high=large["high"] - small["low"],
        n=results.settings["rounds"],
    )


CLAIMS = (
    higher("the gate lowers the loss", "arms.loss", NO_GATE, than=GATE),
    higher("the gate leaves fewer channels idle", "arms.redundancy", NO_GATE, than=GATE, digits=2),
    higher("the Conv Module has a lower loss than attention", "arms.loss", ATTENTION, than=GATE),
)
GROWS = Claim(text="the ratio grows with the picture", measure=growth, digits=2)
COLUMNS = (
    Column(source="arms.parameters", title="parameters", show=",d", first=True),
    Column(source="arms.macs", title="million multiply-adds", show=lambda count: f"{count / 1e6:.1f}", first=True),
    Column(source="arms.loss", title="loss", show=".4f"),
    Column(source="arms.loss", title="above the gate's", show=".4f", against=GATE),
    Column(source="arms.redundancy", title="idle channels", show=".2f"),
    Column(source="arms.redundancy", title="above the gate's", show=".2f", against=GATE),
)


def training(results: Results, figures: Figures) -> str:
    """What is equal for all arms."""
    chosen = results.settings
    return (
        f"Scenes of {chosen['side']} x {chosen['side']} pixels, {chosen['steps']} steps of {chosen['batch']} pictures "
        f"at a learning rate of {chosen['rate']:g}, loss on {chosen['pictures']} held-out pictures; U's of width "
        f"{chosen['width']}, depths {', '.join(map(str, chosen['depths']))}."
    )


def speed_table(results: Results, figures: Figures) -> str:
    """A line per side."""
    rows = (
        [
            f"{row['side']} x {row['side']}", f"{row['dico_macs'] / 1e6:,.0f}", f"{row['dit_macs'] / 1e6:,.0f}",
            f"{row['dico_ms']:.0f}", f"{row['dit_ms']:.0f}",
            f"{row['faster']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
        ]
        for row in results.rows("speed")
    )  # fmt: skip
    heads = ["input", "DiCo, million multiply-adds", "DiT", "DiCo, ms", "DiT, ms", "DiCo is faster by"]
    return markdown_table(heads, rows)


def timed(results: Results, figures: Figures) -> str:
    """Whose forwards these are."""
    chosen, width = results.settings, results.distinct("speed.dit_width")[0]
    return f"DiCo of width {chosen['timed']}; DiT/2 of width {width}, depth 6; medians of {chosen['rounds']} rounds."


EXPERIMENT = Experiment(
    name="dico",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), batch=4, steps=2, pictures=8, scenes=64, width=8, depths=(1, 1, 1, 1, 1), timed=8, sides=(8, 16),
        rounds=2,
    ),
    hours=0.1,
    device="best",
    sections={
        "arms": (ArmTable(columns=COLUMNS, of="arms.arm"), Verdicts(CLAIMS), training),
        "speed": (speed_table, Verdicts((GROWS,)), timed),
    },
    claims=(*CLAIMS, GROWS),
)  # fmt: skip


@EXPERIMENT.part()
def speed(bench: Bench[Settings]) -> Iterable[Row]:
    """Forwards of DiCo and of the DiT in turn, by side: medians, and quartiles of the ratio within a round."""
    settings, device = bench.settings, best_device()
    width = dit_width(settings)
    for number, side in enumerate(settings.sides):
        bench.progress(number, len(settings.sides), f"side {side}")
        options = {**TIMED, "side": side}
        models = {"dico": timed_dico(settings), "dit": DiT(depth=6, heads=4, width=width, side=side)}
        given = example(options, device=device)
        works = {name: partial(forward, model.to(device), given) for name, model in models.items()}
        seconds = in_turn(works, settings.rounds, device=device)
        ratios = [dit / dico for dico, dit in zip(seconds["dico"], seconds["dit"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        yield {
            "side": side, "dit_width": width, "faster": middle, "low": low, "high": high,
            **{f"{name}_ms": 1e3 * statistics.median(seconds[name]) for name in models},
            **{f"{name}_macs": multiply_adds(model, options) for name, model in models.items()},
        }  # fmt: skip


def timed_dico(settings: Settings) -> DiCo:
    """The DiCo that is timed."""
    return DiCo(DiCoConfig(width=settings.timed, depths=settings.depths, **TIMED))


def dit_width(settings: Settings) -> int:
    """Of a DiT that multiplies as often as DiCo at the smallest side."""
    options = {**TIMED, "side": settings.sides[0]}
    with torch.device("meta"):
        target = multiply_adds(timed_dico(settings), options)
        arm = Arm(name="DiT", model=AGAINST, scaled="width", step=4)
        return sized(arm, options, lambda model: multiply_adds(model, options), target)


@EXPERIMENT.part(per_seed=True)
def arms(bench: Bench[Settings]) -> Iterable[Row]:
    """Held-out loss of a short training, and the share of channels of the last mixer that hardly fire."""
    settings = bench.settings
    source = open_scenes(settings.side, count=settings.scenes, held=settings.scenes // 4)
    for number, arm in enumerate(ARMS):
        bench.progress(number, len(ARMS), arm)
        model = trained(bench, arm, source)
        yield {"arm": arm, **measured(model, source, settings)}


def trained(bench: Bench[Settings], arm: str, source: SceneSource) -> DiCo:
    """One arm, with averaged weights."""
    settings = bench.settings
    torch.manual_seed(bench.seed)
    config = DiCoConfig(
        width=settings.width, depths=settings.depths, heads=1, channels=source.channels, classes=source.classes,
        learned_variance=False, **ARMS[arm],
    )  # fmt: skip
    model, optim = DiCo(config), Optim(lr=settings.rate, weight_decay=0.0)
    how = Fit(steps=settings.steps, seed=bench.seed, precision="no", decay=0.98, save_every=settings.steps, optim=optim)
    stage = ArchitectureStage(fit=how, batch=settings.batch)
    fit(ArchitectureTask(model, Ddpm(), source, stage, SMALLEST), how, bench.work / f"{arm}-{bench.seed}")
    return model


def measured(model: DiCo, source: SceneSource, settings: Settings) -> Row:
    """What a trained arm is compared by."""
    losses: dict[str, float] = {}
    scores = channel_scores(
        model.decoder1[-1].mixer,  # type: ignore[index]
        lambda: losses.update(evaluate(model, Ddpm(), source, pictures=settings.pictures)),
    )
    options = {"side": source.side, "channels": source.channels, "classes": source.classes}
    return {
        "loss": losses["mse"],
        "redundancy": redundancy(scores),
        "parameters": parameters(model),
        "macs": multiply_adds(model, options),
    }
