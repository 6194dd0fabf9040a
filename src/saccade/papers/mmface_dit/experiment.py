"""What MMFace-DiT's parts bring on scenes of 32 x 32 pixels with captions, masks and sketches.

Expected: two streams lift the accuracy of colours most; one model does as well on masks and sketches as two; a mask
that contradicts its caption wins; a flow needs fewer steps than DDPM; how words are placed matters little.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.data.labelled.controlled import KINDS, ControlledScenes
from saccade.data.scenes import Scene, describe
from saccade.experiments import Bench, Experiment, Note, Row, Verdicts, fitted
from saccade.experiments.kept_pictures import encoded
from saccade.models.sizing import parameters
from saccade.nn.eval_mode import eval_mode
from saccade.papers.mmface_dit.config import MMFaceDiTConfig
from saccade.papers.mmface_dit.model import MMFaceDiT
from saccade.papers.mmface_dit.objectives import DDPM, FLOW
from saccade.papers.mmface_dit.report import (
    APART,
    ARM_TABLE,
    CLAIMS,
    DIFFUSION,
    DUAL,
    ORDERED,
    OURS,
    SAMPLES,
    SINGLE,
    STEP_LINES,
    conflict_table,
    little,
)
from saccade.papers.mmface_dit.scores import colours_kept, follows, mean_iou, other_shape
from saccade.runs.denoising import toward_noise
from saccade.train.denoising import ArchitectureStage
from saccade.train.loop import Fit
from saccade.train.objectives import Objective
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes
from saccade.train.plots import tile

SEED = 0  # of weights, training and noise
TAUGHT: dict[str, Objective] = {"flow": FLOW, "ddpm": replace(DDPM, clip=1.0)}  # pictures lie in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all arms alike.

    steps      of training, half of them for each of the two models of one kind of picture
    pictures   held-out ones that are scored, drawn in `sampling` steps with `guidance` away from no caption
    few        numbers of steps in which the flow and DDPM are compared, on `fewer` pictures
    shown      on the page
    """

    steps: int = 800
    batch: int = 16
    width: int = 64
    depth: int = 4
    pictures: int = 192
    sampling: int = 20
    guidance: float = 3.0
    few: tuple[int, ...] = (10, 20, 50)
    fewer: int = 96
    shown: int = 8


EXPERIMENT = Experiment(
    name="mmface_dit",
    settings=Settings(),
    quick=Settings(
        steps=2, batch=2, width=32, depth=1, pictures=4, sampling=2, guidance=2.0, few=(2, 3), fewer=2, shown=2
    ),
    hours=0.2,
    sections={
        "arms": (ARM_TABLE, Note("{steps} steps of {batch} scenes, width {width}; {pictures} held-out scenes.")),
        "verdicts": (Verdicts(CLAIMS, differences=True), little),
        "samples": (SAMPLES,),
        "steps": (STEP_LINES,),
        "conflicts": (conflict_table,),
    },
    claims=CLAIMS,
)


def arms(settings: Settings) -> dict[str, dict[str, Any]]:
    """Options of each arm; the single stream is twice as deep, which gives it as many weights."""
    return {
        SINGLE: {"streams": "single", "depth": 2 * settings.depth, "positions": "sincos"},
        DUAL: {"positions": "sincos"},
        OURS: {},
        ORDERED: {"text_positions": "sequence"},
        APART: {"modalities": 0},
        DIFFUSION: {"objective": "ddpm"},
    }


@EXPERIMENT.part(tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Scores of every arm on each held-out scene, and more of the whole model and of DDPM."""
    settings = bench.settings
    for number, (arm, options) in enumerate(arms(settings).items()):
        bench.progress(number, len(arms(settings)), arm)
        if arm == APART:
            yield from apart(bench, options)
            continue
        model = trained(bench, arm, options, ControlledScenes(), settings.steps)
        yield {"table": "models", "arm": arm, "parameters": parameters(model)}
        yield from scored(arm, model, ControlledScenes(), settings)
        if arm in (OURS, DIFFUSION):
            yield from by_steps(arm, model, settings)
        if arm == OURS:
            yield from conflicts(model, settings)
            yield {"table": "sheets", "png": sheet(model, settings)}


def apart(bench: Bench[Settings], options: dict[str, Any]) -> Iterable[Row]:
    """A model for masks and one for sketches, each scored on the scenes that the one model is given in its kind."""
    for offset, kind in enumerate(KINDS):
        source = ControlledScenes(kinds=(kind,))
        model = trained(bench, f"{APART}: {kind}", options, source, bench.settings.steps // 2)
        yield {"table": "models", "arm": APART, "parameters": parameters(model)}
        for row in scored(APART, model, source, bench.settings):
            if row["picture"] % len(KINDS) == offset:
                yield row


def trained(
    bench: Bench[Settings], name: str, options: dict[str, Any], source: ControlledScenes, steps: int
) -> MMFaceDiT:
    """An arm after its training."""
    model = made(options, bench.settings)
    fit = Fit(steps=steps, seed=SEED, precision="no", decay=0.99, optim=Optim(cooldown=0.4))
    stage = ArchitectureStage(fit=fit, batch=bench.settings.batch, drop=0.05)
    return fitted(model, source, stage, bench.work / name.replace(": ", "-"), TAUGHT[model.config.objective])


def made(options: dict[str, Any], settings: Settings) -> MMFaceDiT:
    """An untrained arm."""
    torch.manual_seed(SEED)
    source = ControlledScenes()
    config = MMFaceDiTConfig(
        **{
            "depth": settings.depth,
            "width": settings.width,
            "heads": 4,
            "patch": 4,
            "side": source.side,
            "channels": 3,
            "picture_channels": 3,
            "words_width": 64,
            "classes": source.classes,
            **options,
        }  # fmt: skip
    )
    return MMFaceDiT(config)


def scored(arm: str, model: MMFaceDiT, source: ControlledScenes, settings: Settings) -> Iterable[Row]:
    """A row for each held-out scene: loss of a flow, and what a picture drawn under its condition shows."""
    scenes, _ = source.captioned(settings.pictures)
    found = losses(model, source, settings) if model.config.objective == "flow" else [None] * len(scenes)
    _, condition = source.held_out(settings.pictures)
    pictures = drawn(model, condition, settings.sampling, settings)
    for number, (picture, scene) in enumerate(zip(pictures, scenes, strict=True)):
        yield {"table": "runs", "arm": arm, "picture": number, "loss": found[number], **shown(picture, scene)}


def shown(picture: np.ndarray, scene: Scene) -> dict[str, float]:
    """What a picture shows of its scene."""
    return {"colour": colours_kept(picture, scene), "miou": mean_iou(picture, scene)}


@torch.no_grad()
def losses(model: MMFaceDiT, source: ControlledScenes, settings: Settings) -> list[float]:
    """Of each held-out scene, at even quantiles of the times, in mixed order; the noise is always the same."""
    x, condition = source.held_out(settings.pictures)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))
    t, noise = FLOW.spread(len(x))[order], torch.randn(x.shape, generator=torch.Generator().manual_seed(SEED))
    share = t.view(-1, 1, 1, 1)
    with eval_mode(model):
        found = toward_noise(model)((1 - share) * x + share * noise, t, condition).out
    return (found - (noise - x)).square().mean((1, 2, 3)).tolist()


def drawn(model: MMFaceDiT, condition: dict[str, Tensor], steps: int, settings: Settings) -> np.ndarray:
    """Pictures under these conditions, always from the same noise."""
    source = ControlledScenes()
    shape = (len(condition["ids"]), source.channels, source.side, source.side)
    with eval_mode(model):
        found = TAUGHT[model.config.objective].sample(
            model, condition, source.null(condition), shape,
            steps=steps, guidance=settings.guidance, generator=torch.Generator().manual_seed(SEED),
        )  # fmt: skip
    return to_bytes(found)


def by_steps(arm: str, model: MMFaceDiT, settings: Settings) -> Iterable[Row]:
    """The same scores by the number of sampling steps."""
    source = ControlledScenes()
    scenes, (_, condition) = source.captioned(settings.fewer)[0], source.held_out(settings.fewer)
    for steps in settings.few:
        for number, (picture, scene) in enumerate(zip(drawn(model, condition, steps, settings), scenes, strict=True)):
            yield {"table": "steps", "arm": arm, "steps": steps, "picture": number, **shown(picture, scene)}


def conflicts(model: MMFaceDiT, settings: Settings) -> Iterable[Row]:
    """Scenes of one thing whose caption names another shape than the mask or sketch shows."""
    source = ControlledScenes(things=1)
    scenes, _ = source.captioned(settings.fewer)
    said, rng = [other_shape(scene) for scene in scenes], np.random.default_rng(SEED)
    _, condition = source.shown(scenes, [describe(scene, rng) for scene in said], np.arange(len(scenes)))
    pictures = drawn(model, condition, settings.sampling, settings)
    for number, (picture, scene, other) in enumerate(zip(pictures, scenes, said, strict=True)):
        wins = follows(picture, scene, other)
        yield {"table": "conflicts", "arm": KINDS[number % 2], "picture": number, "picture_wins": float(wins)}


def sheet(model: MMFaceDiT, settings: Settings) -> str:
    """Rows of held-out scenes: what conditions them, what is drawn, what the scene is."""
    x, condition = ControlledScenes().held_out(settings.shown)
    rows = (to_bytes(condition["picture"]), drawn(model, condition, settings.sampling, settings), to_bytes(x))
    return encoded(tile([picture for row in rows for picture in row], columns=settings.shown))
