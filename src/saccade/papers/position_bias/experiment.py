"""Where the theory holds and what trained models do: peaks and bases, networks that retrieve, a reader of captions.

peaks, bases   content all alike: nothing is trained
networks       self-attention networks on retrieval: which of two places with one item they prefer
reader         a small Llama: rollout of its maps beside gradients of its answers
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from saccade.analysis.position_profile import position_profile
from saccade.analysis.rollout import rollout
from saccade.attach import attach
from saccade.experiments import Bench, Experiment, Row
from saccade.papers.position_bias.front import front_row
from saccade.papers.position_bias.gradients import gradient_influence
from saccade.papers.position_bias.lesson import Lesson, accuracy, preferences
from saccade.papers.position_bias.maps import attention_map
from saccade.papers.position_bias.reader import captions, taught
from saccade.papers.position_bias.retrieval import Retrieval
from saccade.papers.position_bias.rotary import rotary_scores
from saccade.papers.position_bias.san import SAN
from saccade.papers.position_bias.sections import BASES, CLAIMS, DECAY, ENDS, HALF, NONE, PLAIN, SECTIONS
from saccade.papers.position_bias.system import RolloutRecorder
from saccade.papers.position_bias.theory import peak_distance
from saccade.train.causal import CausalStage
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

LAYERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the four parts.

    seeds     of trainings
    tokens    of the rows of theory; slopes of the decay, widths of the rotary heads
    depths    layers of the networks; `steps` of `batch` texts of 8 pairs, of 256 classes
    texts     for each two places
    reading   steps of the reader's training, `asked` held-out windows of `length` characters
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    tokens: int = 64
    slopes: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0)
    widths: tuple[int, ...] = (8, 16, 32)
    depths: tuple[int, ...] = (2, 4)
    steps: int = 1200
    batch: int = 32
    texts: int = 1000
    reading: int = 300
    asked: int = 32
    length: int = 64


EXPERIMENT = Experiment(
    name="position_bias",
    settings=Settings(),
    quick=Settings(
        seeds=(0, 1), widths=(4, 8), depths=(1, 2), steps=2, batch=4, texts=8, reading=2, asked=2, length=12,
    ),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part()
def peaks(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each slope and depth: how far back the largest mass lies, and where it should."""
    n = bench.settings.tokens
    for slope in bench.settings.slopes:
        for layers in LAYERS:
            found = position_profile(front_row(n, layers, slope=slope))
            yield {
                "slope": slope, "layers": layers, "measured": found.peak, "predicted": peak_distance(layers, slope),
                "edge": found.peak == n - 1, "early": found.early_bias,
            }  # fmt: skip


@EXPERIMENT.part()
def bases(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each width, base and depth: early bias of rotary heads whose queries and keys are all alike."""
    n = bench.settings.tokens
    for width in bench.settings.widths:
        same = torch.full((n, width), 2.0, dtype=torch.float64)
        for base in BASES:
            one = attention_map(n, scores=rotary_scores(same, same, base=base))
            for layers in LAYERS[:6]:
                found = position_profile(rollout([one] * layers)[-1])
                yield {"arm": f"{base:.0e}", "width": width, "layers": layers, "early": found.early_bias}


@EXPERIMENT.part(per_seed=True)
def networks(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each network and two places: how much the earlier one is preferred."""
    said, task = bench.settings, Retrieval(classes=256)
    first = min(said.depths)
    arms = [(NONE, depth, {}, task) for depth in said.depths]
    arms += [(DECAY, depth, {"gamma": 0.8}, task) for depth in said.depths]
    arms += [(ENDS, first, {}, replace(task, answers=(0, task.pairs - 1)))]
    for done, (arm, depth, options, asked) in enumerate(arms):
        bench.progress(done, len(arms), f"{arm}, {depth} layers")
        torch.manual_seed(bench.seed)
        rng = np.random.default_rng(bench.seed)
        world = asked.world(rng)
        network = SAN(depth=depth, **options)
        learn(bench, network, Lesson(network, asked, world, said.batch), f"{arm}-{depth}".replace(" ", "-"))
        known = accuracy(network, asked.draw(world, rng, said.texts))
        for early, late, gap in preferences(network, task, world, texts=said.texts, seed=1000 + bench.seed):
            yield {"arm": arm, "depth": depth, "places": f"{early}/{late}", "gap": gap, "accuracy": known}


def learn(bench: Bench[Settings], network: SAN, lesson: Lesson, name: str) -> None:
    """Train it, or go on where a killed training stopped."""
    optim = Optim(kind="adamw", lr=4e-3, weight_decay=1e-6)
    options = Fit(steps=bench.settings.steps, seed=bench.seed, precision="no", decay=0.98, optim=optim)
    fit(lesson, options, bench.work / f"{name}-{bench.seed}", cpu=True)


@EXPERIMENT.part(per_seed=True)
def reader(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each text and way to roll out: the rank correlation with gradients, over its tokens."""
    said = bench.settings
    optim = Optim(kind="adamw", lr=3e-3)
    options = Fit(steps=said.reading, seed=bench.seed, precision="no", decay=0.98, optim=optim)
    stage = CausalStage(fit=options, length=said.length)
    host = taught(64, 4, stage, bench.work / f"reader-{bench.seed}").host
    held = captions("held-out")
    starts = torch.linspace(0, len(held) - said.length - 1, said.asked).long()
    ids = held[starts[:, None] + torch.arange(said.length)]
    slopes = gradient_influence(host, ids)
    with torch.no_grad(), attach(host, watch := RolloutRecorder()) as run:
        host(ids, use_cache=False)
        rolled = {arm: watch.influence(run.state, residual=one)[:, 0] for arm, one in ((PLAIN, None), (HALF, 0.5))}
    for arm, rows in rolled.items():
        for number, (row, slope) in enumerate(zip(rows, slopes, strict=True)):
            found: Any = spearmanr(row, slope)
            yield {"arm": arm, "text": number, "correlation": float(found.statistic)}
