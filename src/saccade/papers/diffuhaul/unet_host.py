"""A Stable Diffusion pipeline, with GLIGEN's grounding or without, as what an object is dragged in; DDIM's steps."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from warnings import warn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.papers.diffuhaul.blobs import Blob, Blobs, freed
from saccade.papers.diffuhaul.trajectory import Predict


@dataclass(kw_only=True, eq=False)
class Times:
    """The timesteps of a run, and at which of them the next forward is: a schedule for `attach`."""

    timesteps: Tensor
    step_index: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class UNetHost:
    """A pipeline with a `unet`, opened for pictures of one size.

    grounded  share of the steps, from the first, in which GLIGEN's gates are open (its scheduled sampling)
    Warns of sizes the model was not trained on.
    Raises ValueError for sizes its grids do not divide, for another prediction than of noise, and for GLIGEN's form
    that is grounded by pictures too.
    """

    pipe: Any
    height: int
    width: int
    steps: int
    guidance: float = 7.5
    grounded: float = 1.0
    negative: str = ""

    def __post_init__(self) -> None:
        side = self.pipe.vae_scale_factor * 2 ** (len(self.pipe.unet.config.block_out_channels) - 1)
        for name, value in (("height", self.height), ("width", self.width)):
            if value < side or value % side:
                raise ValueError(f"{name}={value} must be a multiple of {side} pixels, a place of the coarsest grid")
        if {self.height, self.width} != {own := self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor}:
            warn(
                f"pictures of {self.height} x {self.width} pixels are not of the model's size, {own} x {own}; it was "
                "not trained on them",
                stacklevel=3,
            )
        if self.pipe.unet.config.attention_type == "gated-text-image":
            raise ValueError(
                f"{type(self.pipe).__name__} is grounded by a phrase and a picture of each object, and here by phrases "
                "alone; give a StableDiffusionGLIGENPipeline"
            )
        if (kind := self.pipe.scheduler.config.prediction_type) != "epsilon":
            raise ValueError(f"a model that predicts '{kind}' cannot be stepped here; give one that predicts epsilon")

    @property
    def gated(self) -> bool:
        """Whether the model has gated self-attention."""
        return self.pipe.unet.config.attention_type == "gated"

    @cached_property
    def schedule(self) -> Times:
        """DDIM's timesteps, as the pipeline's scheduler spaces them."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        scheduler: Any = DDIMScheduler.from_config(deepcopy(self.pipe.scheduler.config))
        scheduler.set_timesteps(self.steps)
        return Times(timesteps=scheduler.timesteps)

    @cached_property
    def kept(self) -> tuple[float, ...]:
        """Share of the picture's variance that is left at each step, and 1 at the end."""
        return (*self.pipe.scheduler.alphas_cumprod[self.schedule.timesteps].tolist(), 1.0)

    def start(self, seed: int) -> Float[Tensor, "1 c y x"]:
        """Noise, drawn on the CPU, float32."""
        side, unet = self.pipe.vae_scale_factor, self.pipe.unet
        shape = (1, unet.config.in_channels, self.height // side, self.width // side)
        return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).to(unet.device)

    def noised(self, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """A clean latent at the level of a step; itself to the bit after the last."""
        return self.kept[step] ** 0.5 * clean + (1 - self.kept[step]) ** 0.5 * noise

    def step(self, prediction: Tensor, step: int, z: Tensor) -> Tensor:
        """DDIM's, without noise, to the next level."""
        clean = (z - (1 - self.kept[step]) ** 0.5 * prediction) / self.kept[step] ** 0.5
        return self.noised(clean, prediction, step + 1)

    def predictor(self, prompts: Sequence[str], layouts: Sequence[Blobs]) -> Predict:
        """The guided noise of latents (r ...) at a step, a prompt and a layout each."""
        guided, unet = self.guidance > 1, self.pipe.unet
        led, free = self.pipe.encode_prompt(list(prompts), unet.device, 1, guided, [self.negative] * len(prompts))
        texts = torch.cat((free, led)) if guided else led
        grounding = self._grounding(layouts, guided) if self.gated else None

        @torch.no_grad()
        def predict(z: Tensor, step: int) -> Tensor:
            self.schedule.step_index = step
            self._switch(step)
            rows = torch.cat((z, z)) if guided else z
            given = {} if grounding is None else {"cross_attention_kwargs": {"gligen": grounding}}
            time = self.schedule.timesteps[step].to(unet.device)
            noise = unet(rows.to(unet.dtype), time, texts, **given, return_dict=False)[0].float()
            if not guided:
                return noise
            free, led = noise.chunk(2)
            return free + self.guidance * (led - free)

        return predict

    def free(self, source: Blob, target: Blob, dilation: int) -> Float[Tensor, "1 c y x"]:
        """1 where the object was and goes, in the shape of latents."""
        side, channels = self.pipe.vae_scale_factor, self.pipe.unet.config.in_channels
        place = freed(source, target, (self.height // side, self.width // side), dilation)
        return place.expand(1, channels, -1, -1).to(self.pipe.unet.device)

    @torch.no_grad()
    def encode(self, picture: Float[np.ndarray, "1 h w 3"]) -> Float[Tensor, "1 c y x"]:
        """Clean latents of a picture in [0, 1]. Raises ValueError for one of another size."""
        if picture.shape[1:3] != (self.height, self.width):
            raise ValueError(f"a picture of {picture.shape[1:3]} must be {(self.height, self.width)}; resize it")
        vae = self.pipe.vae
        pixels = self.pipe.image_processor.preprocess(picture).to(vae.device, vae.dtype)
        return vae.encode(pixels).latent_dist.mode().float() * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c y x"]) -> Float[np.ndarray, "b h w 3"]:
        """Pictures in [0, 1]."""
        vae = self.pipe.vae
        made = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        return self.pipe.image_processor.postprocess(made, output_type="np")

    def _switch(self, step: int) -> None:
        """Open the gates in grounded steps, shut them in the others."""
        for module in self.pipe.unet.modules():
            if type(module).__name__ == "GatedSelfAttentionDense":
                module.enabled = step < self.grounded * self.steps

    @torch.no_grad()
    def _grounding(self, layouts: Sequence[Blobs], guided: bool) -> dict[str, Tensor]:
        """Boxes and phrases of each row; unconditional rows have the null embedding."""
        rows = [self._objects(blobs) for blobs in layouts]
        boxes, phrases = (torch.stack(each) for each in zip(*rows, strict=True))
        masks = torch.ones_like(boxes[..., 0])
        if guided:
            boxes, phrases = torch.cat((boxes, boxes)), torch.cat((phrases, phrases))
            masks = torch.cat((torch.zeros_like(masks), masks))
        return {"boxes": boxes, "positive_embeddings": phrases, "masks": masks}

    def _objects(self, blobs: Blobs) -> tuple[Float[Tensor, "o 4"], Float[Tensor, "o c"]]:
        """The box of each, and its name's embedding. Raises ValueError for a blob without a name."""
        if unnamed := [number for number, blob in enumerate(blobs) if not blob.name]:
            raise ValueError(
                f"object {unnamed[0]} has no name, and the grounding reads it; give Blob(name='a red ball')"
            )
        pipe, unet = self.pipe, self.pipe.unet
        read = pipe.tokenizer([blob.name for blob in blobs], padding=True, return_tensors="pt").to(unet.device)
        phrases = pipe.text_encoder(**read).pooler_output
        return torch.tensor([blob.box for blob in blobs], device=unet.device, dtype=phrases.dtype), phrases
