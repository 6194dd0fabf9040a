"""Pictures and masks as the latents a pipeline's transformer takes: encoded, packed, and the noise it starts from."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.core.checks import check_word

MaskRule = Literal["cells", "area"]


def packed(pipe: Any, latents: Float[Tensor, "b c y x"]) -> Float[Tensor, "b ..."]:
    """Latents as the transformer takes them: tokens of 2 x 2 for FLUX's pipelines, as they are for others."""
    return pipe._pack_latents(latents, *latents.shape) if hasattr(pipe, "_pack_latents") else latents


@torch.no_grad()
def encoded(pipe: Any, pictures: Float[np.ndarray, "b h w 3"]) -> Float[Tensor, "b ..."]:
    """The mean latents of pictures in [0, 1], as the transformer takes them, float32."""
    vae = pipe.vae
    pixels = pipe.image_processor.preprocess(pictures).to(vae.device, vae.dtype)
    latents = (vae.encode(pixels).latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor
    return packed(pipe, latents).float()


def start_noise(pipe: Any, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "1 ..."]:
    """What the pipeline itself would start from, drawn from this generator on the CPU; of the transformer's dtype."""
    shape = (1, pipe.vae.config.latent_channels, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)
    noise = torch.randn(shape, generator=generator, dtype=pipe.transformer.dtype)
    return packed(pipe, noise.to(pipe.transformer.device))


def latent_mask(pipe: Any, mask: Float[np.ndarray, "h w"], rule: MaskRule = "cells") -> Float[Tensor, "1 ..."]:
    """A mask on pixels, in [0, 1], as a factor on each number of the latents, packed as these are; float32.

    rule  "cells": with c = k x k channels, k x k cells of each latent pixel are spread over its channels, so that they
          keep a finer edge; "area": all channels have the pixel's mean
    Raises ValueError for a mask out of range or of no whole latent pixels, and where channels make no square of cells.
    """
    check_word(get_args(MaskRule), rule=rule)
    side, channels = pipe.vae_scale_factor, pipe.vae.config.latent_channels
    if mask.ndim != 2 or mask.shape[0] % side or mask.shape[1] % side or not 0 <= mask.min() <= mask.max() <= 1:
        raise ValueError(f"mask {mask.shape} must be (h w) in [0, 1], its sides multiples of {side} pixels")
    cells = round(channels**0.5) if rule == "cells" else 1
    if rule == "cells" and (cells**2 != channels or side % cells):
        raise ValueError(
            f"rule='cells' needs a square number of latent channels whose root divides {side}, here are {channels}; "
            "use 'area'"
        )
    fine = F.avg_pool2d(torch.from_numpy(np.asarray(mask, dtype=np.float32))[None, None], side // cells)
    spread = F.pixel_unshuffle(fine, cells).expand(1, channels, -1, -1).contiguous()
    return packed(pipe, spread).to(pipe.transformer.device)
