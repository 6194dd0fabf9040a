"""A callback that keeps part of a picture through a flow pipeline's whole run, with or without inpainting channels."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.pipelines.latents import MaskRule, encoded, latent_mask, start_noise
from saccade.runs.latent_blending import blended

SCHEDULER = "FlowMatchEulerDiscreteScheduler"


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentBlending:
    """Give it as `callback_on_step_end`, and its noise as `latents`: pipe(..., latents=one.noise, ...).

    clean  latents of the picture that is kept, as the transformer takes them
    noise  one noise for the whole run: what it starts from, and what the picture is noised by
    free   in [0, 1]: 1 where the pipeline draws, 0 where the picture stays; after the last step it is there to the bit
    Raises ValueError for parts of different shapes.
    """

    clean: Float[Tensor, "b ..."]
    noise: Float[Tensor, "b ..."]
    free: Float[Tensor, "b ..."]

    def __post_init__(self) -> None:
        shapes = {name: tuple(getattr(self, name).shape) for name in ("clean", "noise", "free")}
        if len({*shapes.values()}) > 1:
            raise ValueError(f"{shapes} must have one shape, that of the latents")

    @classmethod
    def of(
        cls,
        pipe: Any,
        picture: Float[np.ndarray, "1 h w 3"],
        mask: Float[np.ndarray, "h w"],
        generator: torch.Generator,
        rule: MaskRule = "cells",
    ) -> Self:
        """For a picture in [0, 1] and a mask of its size, 1 where the pipeline may draw; `rule` as in `latent_mask`.

        Raises ValueError for a mask of another size, and for a pipeline whose scheduler is no Euler flow.
        """
        check_scheduler(pipe)
        if picture.shape[1:3] != mask.shape:
            raise ValueError(f"mask {mask.shape} must be of the picture's size, {picture.shape[1:3]}")
        noise = start_noise(pipe, mask.shape[0], mask.shape[1], generator)
        return cls(clean=encoded(pipe, picture).to(noise.device), noise=noise, free=latent_mask(pipe, mask, rule))

    def __call__(self, pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """Blend the latents that a step has given, at the level it stepped to."""
        latents, scheduler = tensors["latents"], pipe.scheduler
        sigma = float(scheduler.sigmas[scheduler.step_index])
        kept = blended(latents.float(), self.clean, self.noise.float(), sigma, self.free)
        return {**tensors, "latents": kept.to(latents.dtype)}


def check_scheduler(pipe: Any) -> None:
    """Raise ValueError for a scheduler whose levels are not those of a flow, one after each step."""
    if (name := type(getattr(pipe, "scheduler", None)).__name__) != SCHEDULER:
        raise ValueError(
            f"the scheduler of {type(pipe).__name__}, {name}, must be a {SCHEDULER} for latents to be kept"
        )
