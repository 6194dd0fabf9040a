"""Where and when a small DC-DiT keeps tokens, and what training for many budgets does: scenes of one coloured shape.

noise      two models of 4 blocks learn to predict the noise in 32 x 32 pixels; after `shared` steps, alike so far, one
           drops another share of its tokens at every step
training   models of 16 x 16 pixels learn the velocity of a rectified flow, as in the comparison of architectures
Expected: more tokens at edges than on the flat background, more where there is less noise, one in `RATIO` on average, a
lower loss than with as many tokens sampled at random, and a loss that rises less as tokens are dropped.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from saccade.data.labelled import SceneSource, open_scenes
from saccade.experiments import Bench, Experiment, Row, Training
from saccade.experiments.training import Probed
from saccade.models.sizing import parameters
from saccade.nn.routing import record_routing
from saccade.papers.dc_dit.chunking import kept
from saccade.papers.dc_dit.measures import (
    SHARES,
    HeldOut,
    by_share,
    cells,
    flatter,
    kept_where,
    levels,
    mean_error,
    overall,
)
from saccade.papers.dc_dit.model import DCDiT, DCDiTConfig
from saccade.papers.dc_dit.multi_budget import BudgetTask, MultiBudget
from saccade.papers.dc_dit.sections import CLAIMS, MANY, PLAIN, RATIO, SECTIONS
from saccade.train.budget_comparison import BudgetComparison
from saccade.train.denoising import ArchitectureStage
from saccade.train.judging import SMALLEST
from saccade.train.loop import Fit, fit
from saccade.train.objectives import Ddpm
from saccade.train.optimisers import Optim

FLOW_TIMES = (0.05, 0.2, 0.5, 0.8, 0.95)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Of the two models that learn the noise.

    shared    steps that drop nothing in either model
    pictures  held-out ones that are measured; a quarter of them for where tokens lie
    scenes    rendered to train on; `held` are held out
    """

    side: int = 32
    width: int = 96
    shared: int = 450
    steps: int = 550
    batch: int = 8
    pictures: int = 128
    scenes: int = 4096
    held: int = 512
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Velocity:
    """Of the models that learn the velocity: see `BudgetComparison`. Few samples, for no page shows their quality."""

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 1000
    scenes: int = 16384
    pictures: int = 1000
    samples: int = 56
    judge_steps: int = 400


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of both."""

    noise: Noise = field(default_factory=Noise)
    velocity: Velocity = field(default_factory=Velocity)


def comparison(settings: Settings) -> BudgetComparison:
    """What the models that learn the velocity have in common."""
    usual, chosen = BudgetComparison(), settings.velocity
    return replace(
        usual, seeds=chosen.seeds, samples=chosen.samples, drawn=8, count=chosen.scenes,
        held=chosen.scenes // 4, pictures=chosen.pictures,
        fit=replace(usual.fit, steps=chosen.steps), judge=replace(usual.judge, steps=chosen.judge_steps),
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="dc_dit",
    settings=Settings(),
    quick=Settings(
        noise=Noise(side=16, width=32, shared=1, steps=2, batch=2, pictures=16, scenes=16, held=32),
        velocity=Velocity(seeds=(0,), steps=2, scenes=128, pictures=16, samples=14, judge_steps=2),
    ),
    hours=0.3,
    device="best",
    sections=SECTIONS,
    claims=CLAIMS,
)
TRAINING = Training(arms={"dc_dit": 'DCDiT(layout=("c1", ("D4",), "c1"), narrow=32)'}, comparison=comparison)


@TRAINING.probe(times=FLOW_TIMES, pictures=256)
def velocity(seen: Probed) -> Iterable[Row]:
    """Tokens kept of a picture, and the shares kept at edges and on the background away from them."""
    assert isinstance(seen.source, SceneSource)
    with record_routing(seen.model) as found:
        seen.forward()
    yield kept_where(kept(next(iter(found.values()))[0]), seen.source.masks(len(seen.x)))


@EXPERIMENT.part(tables=True)
def noise(bench: Bench[Settings]) -> Iterable[Row]:
    """Train both models, then measure."""
    chosen = bench.settings.noise
    source = open_scenes(chosen.side, count=chosen.scenes, held=chosen.held)
    models = {}
    for number, arm in enumerate((PLAIN, MANY)):
        bench.progress(number, 3, arm)
        models[arm] = trained(bench, source, arm)
    bench.progress(2, 3, "measuring")
    held, plain = HeldOut(source, chosen.pictures), models[PLAIN]
    maps = held.kept(plain, chosen.pictures // 4)
    masks = torch.from_numpy(source.masks(maps.shape[1]))
    losses = {arm: [held.losses(model, rho=rho) for rho in SHARES] for arm, model in models.items()}
    found = overall(held, plain, maps, masks) | {"flatter": flatter(*losses.values())}
    tables: dict[str, Iterable[Row]] = {
        "models": ({"arm": arm, "parameters": parameters(model)} for arm, model in models.items()),
        "overall": ({"name": name, **mean_error("value", values)} for name, values in found.items()),
        "levels": levels(maps, masks),
        "shares": by_share(losses),
        "cells": cells(maps),
    }
    for table, rows in tables.items():
        yield from ({"table": table, **row} for row in rows)


def trained(bench: Bench[Settings], source: SceneSource, arm: str) -> DCDiT:
    """One of the two, with averaged weights."""
    chosen = bench.settings.noise
    torch.manual_seed(chosen.seed)
    config = DCDiTConfig(
        layout=("c2", ("D4",), "c2"), width=chosen.width, heads=4, narrow=32, side=chosen.side,
        channels=source.channels, classes=source.classes, learned_variance=False, ratio=RATIO, ratio_group=None,
    )  # fmt: skip
    model, stage = DCDiT(config), ArchitectureStage(batch=chosen.batch)
    budget = MultiBudget(warmup=chosen.steps if arm == PLAIN else chosen.shared)
    how = Fit(
        steps=chosen.steps, precision="no", decay=0.95, seed=chosen.seed, save_every=50,
        optim=Optim(warmup=0.0, cooldown=0.0),
    )  # fmt: skip
    fit(BudgetTask(model, Ddpm(), source, stage, SMALLEST, budget=budget), how, bench.work / arm)
    return model.cpu().eval()


TRAINING.into(EXPERIMENT)
