"""The models of the small runs: how each arm is made, trained and sampled, and what its paths over discs are worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.data.discs import DiscViews, disc_gaze, disc_places
from saccade.data.gaze import GazeSet
from saccade.experiments import fitted
from saccade.papers.diffeye.encoders import ColourEdges
from saccade.papers.diffeye.model import DiffEye
from saccade.papers.diffeye.pipeline import DiffEyePipeline
from saccade.papers.diffeye.source import GazeSource
from saccade.train.denoising import ArchitectureStage
from saccade.train.loop import Fit
from saccade.train.objectives import Ddpm
from saccade.train.optimisers import Optim

HELD_OUT_SEED = 1_000_000  # of pictures that no training shows


@dataclass(frozen=True, kw_only=True)
class Training:
    """Of every arm of a part.

    width      of samples, tokens and both stages
    length     samples of a trajectory
    sampling   steps of DDIM
    """

    steps: int
    batch: int = 16
    rate: float = 2e-3
    width: int = 64
    length: int = 32
    sampling: int = 20
    guidance: float = 2.0


def trained(encoder: ColourEdges, source: GazeSource, how: Training, seed: int, folder: Path, **arm: Any) -> DiffEye:
    """A DiffEye of two stages after its training, or the one that `folder` holds."""
    torch.manual_seed(seed)
    model = DiffEye(
        length=how.length, width=how.width, stages=(how.width, how.width), blocks=1, heads=2, groups=8,
        features=encoder.features, grid=encoder.grid, pixels=encoder.pixels, **arm,
    )  # fmt: skip
    optim = Optim(kind="adamw", lr=how.rate, weight_decay=0.0, warmup=0.05, cooldown=0.5)
    fit = Fit(steps=how.steps, seed=seed, precision="no", decay=0.98, save_every=100, optim=optim)
    return fitted(model, source, ArchitectureStage(fit=fit, batch=how.batch), folder, Ddpm())


def sampled(
    model: DiffEye, encoder: ColourEdges, image: Float[Tensor, "m n c"], observers: int, how: Training, seed: int
) -> Float[np.ndarray, "m k l 2"]:
    """Trajectories in [-1, 1] of so many observers of each encoded picture."""
    pipe = DiffEyePipeline(model, encoder)
    rows = image.repeat_interleave(observers, 0)
    generator = torch.Generator().manual_seed(seed)
    found = pipe.sample(rows, steps=how.sampling, guidance=how.guidance, generator=generator, batch=128)
    return found.view(len(image), observers, how.length, 2).double().numpy()


def disc_source(encoder: ColourEdges, count: int, length: int, seed: int, sees: Any) -> GazeSource:
    """Made observers of pictures of discs, one each."""
    gaze = disc_gaze(count, 1, seed=seed, views=DiscViews(length=length))
    return GazeSource.of_gaze(gaze, encoder, length, sees=sees)


def held_out_discs(count: int, observers: int, length: int) -> tuple[GazeSet, Float[np.ndarray, "m 3 2"]]:
    """Pictures that no training shows, their observers, and the middles of their discs, in the order of the visit."""
    views = DiscViews(length=length)
    places = disc_places(count, seed=HELD_OUT_SEED, views=views)
    return disc_gaze(count, observers, seed=HELD_OUT_SEED, views=views), np.stack(list(places.values()))


def misses(paths: Float[np.ndarray, "m k l 2"], places: Float[np.ndarray, "m 3 2"]) -> Float[np.ndarray, " m"]:
    """Of each picture, how far observers are from each disc's middle when they should rest there, in pixels.

    The second, third and last quarter belong to the discs; the middle half of each is looked at.
    """
    quarter = paths.shape[2] // 4
    rests = [slice(stop * quarter + quarter // 4, (stop + 1) * quarter - quarter // 4) for stop in (1, 2, 3)]
    apart = [
        np.linalg.norm(paths[:, :, rest] - places[:, None, None, stop], axis=-1) for stop, rest in enumerate(rests)
    ]
    return np.mean([each.mean((1, 2)) for each in apart], axis=0)
