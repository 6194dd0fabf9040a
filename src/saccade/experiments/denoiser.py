"""A denoiser trained as one arm of an experiment that shapes its models itself, so that `Training` does not fit."""

from pathlib import Path
from typing import TypeVar

from torch import nn

from saccade.data.labelled import Source
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.loop import fit
from saccade.train.objectives import Objective, RectifiedFlow

M = TypeVar("M", bound=nn.Module)


class _WithoutSheet(ArchitectureTask):
    def sheet(self) -> None:  # type: ignore[override]
        return None


def fitted(model: M, source: Source, stage: ArchitectureStage, folder: Path, objective: Objective | None = None) -> M:
    """The model after its training, as a rectified flow unless `objective` is given, with averaged weights, in
    evaluation.

    Runs on the CPU and samples no sheets; a training that `folder` holds goes on where it stopped, a finished one at
    its end.
    """
    fit(_WithoutSheet(model, objective or RectifiedFlow(), source, stage), stage.fit, folder, cpu=True)
    return model.eval()
