"""A flow pipeline, FLUX or Stable Diffusion 3, as what an object is dragged in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.papers.diffuhaul.blobs import Blob, Blobs, freed
from saccade.papers.diffuhaul.trajectory import Predict
from saccade.pipelines.flow import Flow, Levels
from saccade.pipelines.latents import packed
from saccade.runs.known_latents import noised


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowHost:
    """A `Flow` and its steps.

    guidance  of a guidance-distilled model, its embedding; of others the scale of classifier-free guidance, 1 for none
    """

    flow: Flow
    steps: int
    guidance: float = 1.0

    @property
    def pipe(self) -> Any:
        """The pipeline."""
        return self.flow.pipe

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """Levels, falling, the clean one last."""
        return self.flow.sigmas(self.steps)

    @cached_property
    def schedule(self) -> Levels:
        """For `attach`; without the clean level, at which nothing is predicted."""
        return self.flow.levels(self.steps, clean=False)

    def start(self, seed: int) -> Float[Tensor, "1 ..."]:
        """The noise a pipeline starts from, float32."""
        return self.flow.noise(seed).float()

    def noised(self, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """A clean latent at the level of a step; itself to the bit after the last."""
        return noised(clean, noise, self.sigmas[step])

    def step(self, prediction: Tensor, step: int, z: Tensor) -> Tensor:
        """Euler's, to the next level."""
        return z + (self.sigmas[step + 1] - self.sigmas[step]) * prediction

    def predictor(self, prompts: Sequence[str], layouts: Sequence[Blobs]) -> Predict:
        """The velocity of latents (r ...) at a step, a prompt each; the layouts of rows are the system's business."""
        if self.guidance == 1 or hasattr(self.pipe, "_pack_latents"):  # FLUX takes guidance as an embedding
            velocity = self.flow.velocity(prompts, guidance=self.guidance, levels=self.schedule)
            return lambda z, step: velocity(z, self.sigmas[step])
        both = self.flow.velocity([*[""] * len(prompts), *prompts], levels=self.schedule)

        def guided(z: Tensor, step: int) -> Tensor:
            free, led = both(torch.cat((z, z)), self.sigmas[step]).chunk(2)
            return free + self.guidance * (led - free)

        return guided

    def free(self, source: Blob, target: Blob, dilation: int) -> Float[Tensor, "1 ..."]:
        """1 where the object was and goes, in the shape of latents."""
        side = self.pipe.vae_scale_factor
        place = freed(source, target, (self.flow.height // side, self.flow.width // side), dilation)
        spread = place.expand(1, self.pipe.vae.config.latent_channels, -1, -1).contiguous()
        return packed(self.pipe, spread).to(self.pipe.transformer.device)

    def encode(self, picture: Float[np.ndarray, "1 h w 3"]) -> Float[Tensor, "1 ..."]:
        """Clean latents of a picture in [0, 1]."""
        return self.flow.encode(picture)

    def decode(self, latents: Float[Tensor, "b ..."]) -> Float[np.ndarray, "b h w 3"]:
        """Pictures in [0, 1]."""
        return self.flow.decode(latents)
