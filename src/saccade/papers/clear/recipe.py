"""`saccade train clear-distil`: an adapter for a radius, for the bundled model or any FLUX pipeline.

A finished training is not run again, a killed one goes on: repeat the command to resume.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch

from saccade.attach import attach
from saccade.core.site import Site
from saccade.mechanisms.low_rank import LowRank
from saccade.papers.clear.adapters import FILE, save_adapter
from saccade.papers.clear.distillation import (
    PATHS,
    DistillationLoss,
    DistillationTask,
    Draw,
    Student,
    single_stream,
)
from saccade.papers.clear.own_pictures import OwnPictures, PictureDraws
from saccade.papers.clear.system import Clear
from saccade.pipelines.loading import load_pipeline
from saccade.train.checkpoint import result_length, trained, write_atomically
from saccade.train.flow import FlowStage, FlowTask
from saccade.train.launching import process
from saccade.train.loop import Fit, finished, fit
from saccade.train.optimisers import Optim
from saccade.train.settings import check_run, flat

Stage = Literal["train", "export"]
STAGES: tuple[Stage, ...] = get_args(Stage)
SCENES = FlowStage(
    sides=(64, 128, 192, 256), shares=(0.05, 0.1, 0.2, 0.65), batches=(16, 8, 3, 2), pools=(256, 512, 512, 768)
)


@dataclass(frozen=True, kw_only=True)
class DistillationStage:
    """`rank` of the terms; `every`: of the layers, those whose attention output is compared.

    `checkpoint`: run the blocks again in backward, to save memory.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=500, precision="no", decay=0.99, save_every=20, log_every=10, optim=Optim(kind="adamw", lr=2e-3)
        )
    )
    rank: int = 64
    every: int = 4
    checkpoint: bool = False

    free: ClassVar[tuple[str, ...]] = ("checkpoint",)


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe:
    """Everything that decides the result.

    model         a FLUX pipeline: bundled name, directory, or identifier in the local cache
    radius, pool  as of `Clear`
    scenes        the bundled model's pictures: sides, shares, batches and pools of the rendered scenes
    own           pictures the pipeline makes of a file of prompts, instead of the scenes
    """

    model: str = "scenes-flux"
    radius: float = 8.0
    pool: int | None = None
    scenes: FlowStage = SCENES
    own: OwnPictures = field(default_factory=OwnPictures)
    train: DistillationStage = field(default_factory=lambda: DistillationStage(every=1))

    free: ClassVar[tuple[str, ...]] = ()

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Train, then store the adapter; returns its file."""
        check_run(folder / "train", self.settings)
        torch.manual_seed(self.train.fit.seed)
        pipe = load_pipeline(self.model, device=str(process().device))
        pipe.set_progress_bar_config(disable=True)
        made = Distillation(pipe, Clear(radius=self.radius, pool=self.pool), self.train)
        if "train" in stages and not finished(self.train.fit, folder / "train"):
            made.fit(self.draw(pipe, folder), folder / "train", self.settings)
        if "export" in stages and process().is_main_process:
            made.module.load_state_dict(trained(folder / "train"))
            steps, seconds = result_length(folder / "train") or (None, None)
            made.save(folder / FILE, model=self.model, radius=self.radius, steps=steps, seconds=seconds)
        return folder / FILE

    def draw(self, pipe: Any, folder: Path) -> Draw:
        """Where batches come from."""
        if self.own.prompts:
            return PictureDraws(pipe, self.own, folder / "pictures", self.train.fit.seed)
        return FlowTask(pipe, self.scenes, folder / "scenes").batch

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result: all but the data that is not used."""
        unused = "scenes." if self.own.prompts else "own."
        return {path: value for path, value in flat(self).items() if not path.startswith(unused)}


class Distillation:
    """The trained parts of one distillation, beside the frozen transformer of a pipeline.

    `system`: what the student attends by, such as `Clear(radius=8)`.
    """

    def __init__(self, pipe: Any, system: Any, stage: DistillationStage) -> None:
        self.transformer, self.stage = pipe.transformer.requires_grad_(False), stage
        sites = _sites(pipe.transformer)
        adapter = LowRank.fresh(pipe.transformer, sites, PATHS, stage.rank)
        if isinstance(system, Clear) and system.pool is not None:
            system = system.trainable(sites)
        self.student = Student(system=system, adapter=adapter)
        watched = [pipe.transformer.get_submodule(site.name) for site in single_stream(sites, stage.every)]
        pooling = getattr(system, "weights", None)
        self.module = DistillationLoss(pipe.transformer, self.student, watched, pooling)

    def fit(self, draw: Draw, folder: Path, settings: dict[str, Any]) -> None:
        """Train, or go on."""
        if self.stage.checkpoint:
            self.transformer.enable_gradient_checkpointing()
        with attach(self.transformer, self.student):
            fit(DistillationTask(self.module, draw, settings), self.stage.fit, folder, settings=settings)

    def save(self, file: Path, **said: object) -> None:
        """Store the adapter."""
        adapter, pooling = self.module.adapter, self.module.pooling
        write_atomically(file, lambda path: save_adapter(path, adapter, pooling=pooling, **said))


def _sites(transformer: Any) -> tuple[Site, ...]:
    with attach(transformer) as run:
        return run.sites
