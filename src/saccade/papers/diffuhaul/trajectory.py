"""From noise to the dragged picture: source and target side by side, or the target by a photo's features.

Generated: both rows start from one noise and go together. A photo: the source is never inverted, it is noised; once a
bucket it is run at the bucket's first level, and all steps of the bucket take what is left of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.papers.diffuhaul.blobs import Blob, Blobs
from saccade.papers.diffuhaul.buckets import FreshNoise, bucket_starts, check_buckets, source_noises
from saccade.papers.diffuhaul.system import SOURCE, DiffUHaul

Predict = Callable[[Tensor, int], Tensor]  # latents (r ...) and the step they are at
TARGET = "target"


class Host(Protocol):
    """A model with its schedule: what a trajectory needs of it."""

    @property
    def pipe(self) -> Any:
        """What systems attach to."""
        ...

    @property
    def steps(self) -> int:
        """Steps of the schedule."""
        ...

    @property
    def schedule(self) -> Any:
        """For `attach`."""
        ...

    def start(self, seed: int) -> Tensor:
        """Noise (1 ...)."""
        ...

    def noised(self, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """A clean latent at the level of a step; at `steps` itself to the bit."""
        ...

    def step(self, prediction: Tensor, step: int, z: Tensor) -> Tensor:
        """From a step's level to the next."""
        ...

    def predictor(self, prompts: Sequence[str], layouts: Sequence[Blobs]) -> Predict:
        """What the model predicts for rows of these prompts and layouts."""
        ...

    def free(self, source: Blob, target: Blob, dilation: int) -> Tensor:
        """1 where the dragged object was and goes, in the shape of latents."""
        ...

    def encode(self, picture: Float[np.ndarray, "1 h w 3"]) -> Tensor:
        """Clean latents of a picture in [0, 1]."""
        ...

    def decode(self, latents: Tensor) -> Float[np.ndarray, "b h w 3"]:
        """Pictures in [0, 1]."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Drag:
    """What is dragged, and how it is kept in its surroundings.

    system       with the layouts; without `features`, which a trajectory gives it
    prompts      of sources and of targets, one for each picture that is dragged alike
    blend        keep what lies outside of the object's old and new place the source's, after each step (step 5)
    dilation     how many latent pixels further the free place reaches
    buckets      of a photo's steps
    fresh_noise  a new noise for the photo at each "bucket", at each "step", which then all run the source, or the same
                 "once" for all
    Raises ValueError for options out of range.
    """

    system: DiffUHaul
    prompts: tuple[Sequence[str], Sequence[str]]
    blend: bool = True
    dilation: int = 2
    buckets: int = 10
    fresh_noise: FreshNoise = "bucket"

    def __post_init__(self) -> None:
        check_buckets(self.buckets, self.fresh_noise)
        if not self.prompts[0] or len(self.prompts[0]) != len(self.prompts[1]):
            raise ValueError(
                f"there are {len(self.prompts[0])} source and {len(self.prompts[1])} target prompts; give one of each "
                "for each picture"
            )

    @property
    def count(self) -> int:
        """Pictures that are dragged alike."""
        return len(self.prompts[0])

    @property
    def layouts(self) -> tuple[list[Blobs], list[Blobs]]:
        """Of sources and targets."""
        return [self.system.source] * self.count, [self.system.target] * self.count

    def free(self, host: Host) -> Tensor:
        """1 where the target may differ from the source, in the shape of latents."""
        place = host.free(*self.system.way, self.dilation)
        return place if self.blend else torch.ones_like(place)


Stepped = Callable[[], None]


def _nothing() -> None:
    """Nobody counts the steps."""


@torch.no_grad()
def haul_generated(
    host: Host, drag: Drag, noise: Float[Tensor, "n ..."], systems: Sequence[System] = (), stepped: Stepped = _nothing
) -> Float[Tensor, "rows ..."]:
    """Clean latents of sources and then targets, from the same noise, in one batch; a model call a step."""
    z, free = torch.cat((noise, noise)), drag.free(host)
    predict = host.predictor([*drag.prompts[0], *drag.prompts[1]], [*drag.layouts[0], *drag.layouts[1]])
    pair = Rows.of("source", "target", samples=drag.count)
    with attach(host.pipe, drag.system, *systems, rows=pair, schedule=host.schedule):
        for step in range(host.steps):
            z = host.step(predict(z, step), step, z)
            source, target = z.chunk(2)
            z = torch.cat((source, torch.where(free > 0, target, source)))
            stepped()
    return z


@torch.no_grad()
def haul_photo(
    host: Host,
    drag: Drag,
    clean: Float[Tensor, "n ..."],
    noise: Float[Tensor, "n ..."],
    generator: torch.Generator,
    systems: Sequence[System] = (),
    stepped: Stepped = _nothing,
) -> Float[Tensor, "rows ..."]:
    """Latents of photos and then of targets, by features of the photos noised in each bucket.

    The model is called steps + buckets times.
    """
    system, free = replace(drag.system, features={}), drag.free(host)
    starts = bucket_starts(host.steps, drag.buckets, drag.fresh_noise)
    noises = dict(zip(starts, source_noises(noise, len(starts), drag.fresh_noise, generator), strict=True))
    source, target = (host.predictor(*each) for each in zip(drag.prompts, drag.layouts, strict=True))
    z = host.noised(clean, noise, 0)
    rows = Rows.of("target", samples=drag.count)
    with attach(host.pipe, system, *systems, rows=rows, schedule=host.schedule) as run:
        for step in range(host.steps):
            if step in noises:
                run.part(SOURCE)
                source(host.noised(clean, noises[step], step), step)
            run.part(TARGET)
            z = host.step(target(z, step), step, z)
            z = torch.where(free > 0, z, host.noised(clean, noise, step + 1))
            stepped()
    return torch.cat((clean, z))
