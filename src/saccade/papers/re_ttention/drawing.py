"""Pictures of the bundled model under an arm of the experiment, and how far their latents lie from dense ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.data.scenes import Prompt, judge, prompts
from saccade.experiments import Row

PIXELS = 8  # per image token, along a side
SEED = 17
TEXT = 32  # tokens to which captions are padded


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawn:
    """Final latents of all captions, and the share of pairs computed, which counts windows beside dense attention."""

    latents: Float[Tensor, "b n c"]
    density: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Studio:
    """One pipeline, `captions` held-out captions of one object, a square of `grid` image tokens a side."""

    pipe: Any
    grid: int
    captions: int
    steps: int

    @property
    def wanted(self) -> Sequence[Prompt]:
        """The captions."""
        return prompts(self.captions, seed=SEED, count=1, split="held-out")

    def draw(self, *systems: System) -> Drawn:
        """The same noise for every arm."""
        side, texts = PIXELS * self.grid, [prompt.text for prompt in self.wanted]
        seeds = [torch.Generator().manual_seed(SEED + i) for i in range(len(texts))]
        with attach(self.pipe, *systems) as run:
            made = self.pipe(
                texts, num_inference_steps=self.steps, height=side, width=side, max_sequence_length=TEXT,
                generator=seeds, output_type="latent",
            )  # fmt: skip
        return Drawn(latents=made.images, density=run.report().density if systems else 1.0)

    @torch.no_grad()
    def pictures(self, drawn: Drawn) -> UInt8[np.ndarray, "b side side 3"]:
        """Latents decoded, as the pipeline does it."""
        side, vae = PIXELS * self.grid, self.pipe.vae
        latents = self.pipe._unpack_latents(drawn.latents, side, side, self.pipe.vae_scale_factor)
        decoded = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]
        shown = self.pipe.image_processor.postprocess(decoded, output_type="np")
        return (np.asarray(shown) * 255).round().astype(np.uint8)

    def rows(self, drawn: Drawn, dense: Drawn) -> list[Row]:
        """For each caption: squared error of the latents over the variance of the dense ones, and promises kept."""
        apart = (drawn.latents - dense.latents).square().mean((1, 2)) / dense.latents.var((1, 2))
        kept = [judge(image, prompt) for image, prompt in zip(self.pictures(drawn), self.wanted, strict=True)]
        found = zip(apart.tolist(), kept, strict=True)
        return [
            {"caption": i, "error": error, "kept": float(verdict.all), "density": drawn.density}
            for i, (error, verdict) in enumerate(found)
        ]
