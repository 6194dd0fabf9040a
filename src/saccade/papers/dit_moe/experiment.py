"""What a small DiT-MoE shows of the paper's claims: load balancing, what experts depend on, shared experts, placement.

Labelled scenes of 16 x 16 pixels; all arms have as many multiply-adds for a token.
Expected: load evens out as the balance grows, and the small balance has the best loss; place and step tell more of the
expert than the class does, place less in the last layer than in the first; a shared expert, and experts in the deep
half, lower the loss.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from saccade.analysis.usage_plot import plot_usage
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
    higher,
)
from saccade.experiments.denoiser import fitted
from saccade.metrics.intervals import Interval, t_interval
from saccade.models import DiT
from saccade.papers.dit_moe.expert_cost import cost_row
from saccade.papers.dit_moe.expert_usage import by_group, recorded, routing_rows
from saccade.train.denoising import ArchitectureStage
from saccade.train.judging import evaluate
from saccade.train.loop import Fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.ui.markdown import markdown_table

FLOW = RectifiedFlow()
BASE = "balance 0.005"
ALL_BLOCKS = (BASE, "balance 0", "balance 0.5", "no shared expert")  # arms with experts in every block
GROUPS = ("place", "step", "class")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the trainings, of the samples whose routing is recorded, and of the timing.

    held      pictures whose loss is measured
    samples   of each class
    widths    of the layers that are timed in `rounds`
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    width: int = 64
    depth: int = 4
    heads: int = 4
    experts: int = 4
    steps: int = 200
    batch: int = 24
    held: int = 448
    samples: int = 10
    sampling_steps: int = 10
    scenes: int = 16384
    widths: tuple[int, ...] = (64, 256)
    rounds: int = 15


def arms(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Every block's feed-forward; those without experts are as wide as two experts and the shared one."""
    every, half = settings.depth, settings.depth // 2
    experts, dense = moe(settings), f"swiglu(hidden={10 * settings.width})"
    return {
        BASE: (experts,) * every,
        "balance 0": (moe(settings, balance=0.0),) * every,
        "balance 0.5": (moe(settings, balance=0.5),) * every,
        "no shared expert": (moe(settings, shared=0, hidden=5 * settings.width),) * every,
        "deep half": (dense,) * (every - half) + (experts,) * half,
        "shallow half": (experts,) * half + (dense,) * (every - half),
    }


def moe(settings: Settings, **changes: float) -> str:
    """A feed-forward of experts as text."""
    options = {"experts": settings.experts, "balance": 0.005} | changes
    return f"moe({', '.join(f'{name}={value}' for name, value in options.items())})"


def over_class(group: str) -> Callable[[Results, str], dict[int, float]]:
    """By seed, how much more a group says about the expert than the class does beyond chance, if anything."""

    def value(found: Results, arm: str) -> dict[int, float]:
        found_by = {name: found.by(f"routing.{name}", arm=arm) for name in (group, "class", "chance")}
        return {
            seed: found_by[group][seed] - max(0.0, found_by["class"][seed] - found_by["chance"][seed])
            for seed in found_by[group]
        }

    return value


def fall(found: Results, arm: str) -> dict[int, float]:
    """By seed, of what the place says, from the first layer to the last."""
    layers = found.distinct("routing.layer", arm=arm)
    first, last = (found.by("routing.place", arm=arm, layer=layers[at]) for at in (0, -1))
    return {seed: first[seed] - last[seed] for seed in first}


def pooled(text: str, value: Callable[[Results, str], dict[int, float]]) -> Claim:
    """Of the mean over all arms with experts in every block, seed by seed."""

    def measure(found: Results) -> Interval:
        values = [value(found, arm) for arm in ALL_BLOCKS]
        return t_interval([fmean(each[seed] for each in values) for seed in values[0]])

    return Claim(text=text, measure=measure)


CLAIMS = (
    higher("Without load balancing the load varies more than with a weight of 0.005",
           "routing.load_variation", "balance 0", than=BASE, digits=3),
    higher("and with 0.005 more than with 0.5", "routing.load_variation", BASE, than="balance 0.5", digits=3),
    higher("A balance of 0.005 has a lower loss than none", "runs.loss", "balance 0", than=BASE),
    higher("and than one of 0.5", "runs.loss", "balance 0.5", than=BASE),
    pooled("The place says more about the expert than the class", over_class("place")),
    pooled("The step says more about the expert than the class", over_class("step")),
    pooled("The place says less in the last layer than in the first", fall),
    higher("A shared expert lowers the loss", "runs.loss", "no shared expert", than=BASE),
    higher("Experts in the deep half have a lower loss", "runs.loss", "shallow half", than="deep half"),
)  # fmt: skip
COLUMNS = (
    Column(source="runs.loss", title="loss"),
    Column(source="runs.loss", title=f"above {BASE}", against=BASE),
    Column(source="routing.load_variation", title="variation of load", show=".3f"),
)
SETTING = (
    "DiT of width {width}, depth {depth}, side 16, {experts} experts, two of them at work for a token; {steps} steps "
    "of {batch} pictures; {held} held-out pictures, {samples} samples of each class in {sampling_steps} steps."
)


def usage_picture(results: Results, figures: Figures) -> str:
    """Choices of the first arm's experts."""
    tables = {
        group: torch.tensor([row["counts"] for row in results.rows("usage", group=group)]) for group in GROUPS
    }  # fmt: skip
    return figures.save("usage", plot_usage(tables), "Who served what, layer by layer")


def information_table(results: Results, figures: Figures) -> str:
    """A line per layer: means over the seeds and all arms with experts in every block."""
    columns = {name: f"routing.{name}" for name in GROUPS} | {"class, by chance": "routing.chance"}
    means = [[results.by(column, "layer", arm=arm) for arm in ALL_BLOCKS] for column in columns.values()]
    lines = [[layer, *(f"{fmean(arm[layer] for arm in column):.4f}" for column in means)] for layer in means[0][0]]
    return markdown_table(["layer", *columns], lines)


def cost_table(results: Results, figures: Figures) -> str:
    """A line per width."""
    lines = [
        [row["width"], f"{row['dense_ms']:.0f}", f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"]
        for row in results.rows("cost")
    ]
    return markdown_table(["width", "dense, ms", "experts take"], lines)


EXPERIMENT = Experiment(
    name="dit_moe",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), width=16, depth=2, heads=2, experts=3, steps=2, batch=4, held=16, samples=1, sampling_steps=2,
        scenes=256, widths=(16,), rounds=2,
    ),
    hours=0.3,
    sections={
        "arms": (ArmTable(columns=COLUMNS), Note(SETTING)),
        "usage": (usage_picture,),
        "information": (information_table,),
        "verdicts": (Verdicts(CLAIMS, True),),
        "cost": (cost_table, Note("{rounds} rounds.")),
    },
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part(per_seed=True, tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Train every arm, all on the same pictures, times and noise; then record its routing along sampling."""
    settings = bench.settings
    source = open_source("scenes", 16, count=settings.scenes, held=settings.scenes // 4)
    labels = torch.arange(source.classes).repeat(settings.samples)
    for number, (arm, ffn) in enumerate(arms(settings).items()):
        bench.progress(number, len(arms(settings)), arm)
        folder = bench.work / f"{arm.replace(' ', '-')}-{bench.seed}"
        model = trained(ffn, settings, bench.seed, source, folder)
        yield {"table": "runs", "arm": arm, "loss": evaluate(model, FLOW, source, pictures=settings.held)["mse"]}
        found = recorded(model, source, labels, settings.sampling_steps)
        yield from ({"table": "routing", "arm": arm} | row for row in routing_rows(found, labels))
        if arm == BASE and bench.seed == settings.seeds[0]:
            yield from ({"table": "usage"} | row for row in by_group(found, labels))


def trained(ffn: tuple[str, ...], settings: Settings, seed: int, source: Source, folder: Path) -> DiT:
    """A DiT with these feed-forwards."""
    torch.manual_seed(seed)
    model = DiT(
        width=settings.width, depth=settings.depth, heads=settings.heads, side=source.side, channels=3,
        classes=source.classes, ffn=ffn, learned_variance=False, time_scale=1000.0,
    )  # fmt: skip
    optim = Optim(kind="adamw", lr=2e-3, cooldown=0.4)
    fit = Fit(steps=settings.steps, seed=seed, precision="no", decay=0.98, optim=optim)
    return fitted(model, source, ArchitectureStage(batch=settings.batch, fit=fit), folder)


@EXPERIMENT.part()
def cost(bench: Bench[Settings]) -> Iterable[Row]:
    """What experts take of a dense layer's time."""
    for number, width in enumerate(bench.settings.widths):
        bench.progress(number, len(bench.settings.widths), f"width {width}")
        yield cost_row(width, bench.settings.rounds)
