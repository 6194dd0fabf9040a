"""A recipe small enough for tests, and a process that can kill itself in the middle of it.

python -m tests.train.tiny FOLDER [STEP]      train in FOLDER; SIGKILL oneself before STEP
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saccade.models.scenes_flux import ScenesFlux
from saccade.train.flow import FlowStage, FlowTask
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

MODEL = ScenesFlux(
    hidden=32,
    head_dim=16,
    double_blocks=1,
    single_blocks=1,
    rope_axes=(4, 6, 6),
    text_dim=32,
    text_heads=2,
    t5_layers=1,
    clip_layers=1,
    autoencoder_widths=(8, 8, 8),
)
STAGE = FlowStage(
    fit=Fit(steps=10, save_every=3, log_every=1, sheet_every=1000, decay=0.9, optim=Optim(warmup=0.2)),
    sides=(64, 128),
    shares=(0.7, 0.3),
    batches=(4, 1),
    pools=(16, 4),
    compile=False,
)


class Mortal(FlowTask):
    """The flow task, silent about pictures, that kills its process when the batch of step `last` is asked for."""

    drawn = 0
    last: int | None = None

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        if self.drawn == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.drawn += 1
        return super().batch(rng)

    def sheet(self) -> None:  # type: ignore[override]
        return None


def train(folder: Path, last: int | None = None) -> dict[str, Tensor]:
    """Train the tiny flow from its fixed random start."""
    torch.manual_seed(0)
    task = Mortal(MODEL.pipeline(), STAGE, folder)
    task.last = last
    return fit(task, STAGE.fit, folder, cpu=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
