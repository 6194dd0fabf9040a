"""How near ways to attend come to the teacher before and after a distillation: the bundled one, or a short one each."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Layout
from saccade.experiments import Row
from saccade.metrics import paired_difference
from saccade.papers.clear.arms import TEXT, TRAINED, AttentionArm, adapted, disc
from saccade.papers.clear.distillation import Draw, Student
from saccade.papers.clear.recipe import Distillation, DistillationStage
from saccade.papers.clear.system import Clear
from saccade.papers.clear.zero_shot import PIXELS, Noised, digest, interval, noised, velocity
from saccade.train.flow import FlowStage, FlowTask
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim

RANK = 64
Pair = tuple[AttentionArm, AttentionArm]  # before and after


def by_radius(pipe: Any, grid: int, radii: Iterable[float], pictures: int) -> Iterable[Row]:
    """Discs without and with the bundled adapter, on the same pictures, times and noise."""
    data, weights = noised(pipe, grid, pictures), digest(pipe.transformer)
    dense = velocity(pipe, data)
    for radius in radii:
        for trained in (None, TRAINED):
            pair = disc(radius, trained=trained), adapted(radius, trained=trained)
            row, _ = compared(pipe, data, dense, pair)
            yield row | {"grid": grid, "radius": radius, "weights": weights}


def draws(pipe: Any, grid: int, folder: Path, *, batch: int, pool: int) -> Draw:
    """Batches on one grid. Pads count as they are: linear attention knows no biases."""
    scenes = FlowStage(sides=(PIXELS * grid,), shares=(1.0,), batches=(batch,), pools=(pool,))
    task = FlowTask(pipe, scenes, folder)
    return lambda rng: {name: value for name, value in task.batch(rng).items() if name != "pads"}


def at_one_budget(pipe: Any, arms: Iterable[AttentionArm], draw: Draw, folder: Path, said: Any) -> Iterable[Row]:
    """Each arm after as many steps on the first grid, and how far it stays behind the first arm.

    Plain discs are measured on the second grid too, which this distillation has not seen. `said`: `grids`,
    `pictures` on each, and the number of `steps`.
    """
    first: dict[int, list[float]] = {}
    for arm in arms:
        student = distilled(pipe, arm, draw, folder, said.steps)
        for grid, pictures in zip(said.grids, said.pictures, strict=True):
            data = noised(pipe, grid, pictures)
            dense = velocity(pipe, data)
            for before in _on(arm, elsewhere=grid != said.grids[0]):
                after = replace(before, system=replace(student, system=before.system))
                row, found = compared(pipe, data, dense, (before, after))
                behind = paired_difference(found, first.setdefault(grid, found))
                yield row | {"grid": grid, **interval("behind", behind)}


def distilled(pipe: Any, arm: AttentionArm, draw: Draw, folder: Path, steps: int) -> Student:
    """A short distillation, kept in a folder of the arm's label."""
    optim = Optim(kind="adamw", lr=2e-3)
    length = Fit(steps=steps, precision="no", decay=0.9, save_every=steps, sheet_every=steps + 1, optim=optim)
    torch.manual_seed(0)
    made = Distillation(pipe, arm.system, DistillationStage(fit=length, rank=RANK, every=1))
    made.fit(draw, folder / "-".join(re.findall(r"\w+", arm.label)), {"arm": arm.label})
    made.student.on = True
    return made.student


def _on(arm: AttentionArm, *, elsewhere: bool) -> Iterable[AttentionArm]:
    """What is measured of an arm: on another grid plain discs only, without and with the proportional scale."""
    if not elsewhere:
        return (arm,)
    if not isinstance(arm.system, Clear) or arm.system.pool is not None:
        return ()
    return arm, disc(arm.system.radius, trained=TRAINED)


def compared(pipe: Any, data: Noised, dense: Tensor, pair: Pair) -> tuple[Row, list[float]]:
    """Teacher MSE before and after, what was gained, and flow losses; and the teacher MSE after by picture."""
    side = round(data.latents.shape[1] ** 0.5)
    velocities = [velocity(pipe, data, arm) for arm in pair]
    before, after = (_mse(v, dense) for v in velocities)
    flow = [_mse(v, data.target) for v in (*velocities, dense)]
    losses = dict(zip(("flow_before", "flow_after", "flow_dense"), (x.mean().item() for x in flow), strict=True))
    row = {
        "arm": pair[0].label,
        "scaled": pair[0].scaled,
        "pairs": pair[0].share(Layout.joint(text=TEXT, grid=(1, side, side))),
        "before": before.mean().item(),
        "after": after.mean().item(),
        **losses,
        **interval("gained", paired_difference(before.tolist(), after.tolist())),
        **interval("extra", paired_difference(flow[1].tolist(), flow[2].tolist())),
    }
    return row, after.tolist()


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean((1, 2))
