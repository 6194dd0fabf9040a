"""Runs that several processes share, for a launcher to start; each goes into its own folder.

python -m tests.train.parallel FOLDER [NAME,FIELD=VALUE,... ...]     fields of `Fit`; `last=STEP` kills before STEP
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.data.labelled import open_scenes
from saccade.models import DiT
from saccade.train.config import override
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim

FIT = Fit(steps=8, precision="no", log_every=1, save_every=3, decay=0.9, optim=Optim(lr=3e-3, warmup=0, cooldown=0))


class Double(nn.Module):
    """A model that computes in float64, so that only rounding of the 16th digit is left to differ."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.double()

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Any:
        return self.model(x.double(), t.double(), labels)


class Mortal(ArchitectureTask):
    """Kills its process when the batch of step `last` is asked for."""

    drawn = 0
    last: int | None = None

    def batch(self, rng: np.random.Generator) -> dict[str, Any]:
        if self.drawn == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.drawn += 1
        return super().batch(rng)


def task(double: bool = True) -> Mortal:
    """The same small model each time, its zero layers filled, so that all gradients count from the first step."""
    torch.manual_seed(0)
    source = open_scenes(16, label="shape", count=64, held=16)
    model = DiT(depth=2, width=16, heads=2, patch=4, side=16, channels=3, classes=4, learned_variance=False)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    wanted = Evaluation(samples=4, steps=2)
    stage = ArchitectureStage(batch=8)
    return Mortal(Double(model) if double else model, RectifiedFlow(), source, stage, wanted)


def train(folder: Path, config: Fit = FIT, last: int | None = None, *, cpu: bool = True) -> dict[str, Tensor]:
    """Train for a few steps."""
    made = task(double=config.precision == "no")
    made.last = last
    return fit(made, config, folder, cpu=cpu)


def run(folder: Path, words: str) -> None:
    """One run by its name and settings."""
    name, *settings = words.split(",")
    fields = dict(setting.split("=") for setting in settings)
    last = fields.pop("last", None)
    train(
        folder / name, override(FIT, [f"{key}={value}" for key, value in fields.items()]), int(last) if last else None
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[2:]:
        run(Path(sys.argv[1]), each)
