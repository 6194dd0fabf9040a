"""Pictures the model makes before it is trained, of a neutral prompt: what it is to keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from saccade.models.stored import read_weights
from saccade.papers.attencraft.hosts import Host
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.train.checkpoint import write_atomically


@dataclass(frozen=True, kw_only=True)
class PriorPictures:
    """What the model itself makes of a neutral prompt, to keep what it knows.

    pictures  how many; 0 for none
    prompt    of all of them
    steps     of the pipeline's sampler
    Raises ValueError for options out of range.
    """

    pictures: int = 200
    prompt: str = "a photo at the beach"
    steps: int = 50

    def __post_init__(self) -> None:
        if self.pictures < 0 or self.steps < 1:
            raise ValueError(f"pictures={self.pictures} and steps={self.steps} must be 0 and 1 at least")


def prior_latents(host: Host, wanted: PriorPictures, folder: Path, seed: int) -> Tensor | None:
    """What the pipeline makes of the neutral prompt, a file each, so that a killed run goes on making them."""
    files = [folder / f"picture-{i:04d}.safetensors" for i in range(wanted.pictures)]
    for number, file in enumerate(files):
        if not file.exists():
            with no_progress_bar(_pipe(host)):
                made = host.made(wanted.prompt, wanted.steps, seed + number).cpu().contiguous()
            write_atomically(file, lambda partial, made=made: save_file({"latents": made}, partial))
    return torch.cat([read_weights(file)["latents"] for file in files]) if files else None


def _pipe(host: Any) -> Any:
    return getattr(host, "pipe", None) or host.flow.pipe
