"""Pictures, masks and sketches as the latents that released weights were trained on, and back.

    z = scale * (a draw of the encoder),    picture = decoder(z / scale)

The autoencoder is FLUX's, whose shift the released code leaves out both ways; with it colours would be wrong.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def encode(
    vae: Any, pictures: Float[Tensor, "b c h w"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "b k y x"]:
    """Latents of pictures, coloured masks or sketches of one channel, all in [-1, 1].

    Raises ValueError for values outside of that, and for pictures of neither one nor three channels.
    """
    if pictures.shape[1] not in (1, 3):
        raise ValueError(f"pictures of shape {tuple(pictures.shape)} must have 3 channels, or 1 for sketches")
    if not -1 <= float(pictures.min()) <= float(pictures.max()) <= 1:
        low, high = float(pictures.min()), float(pictures.max())
        raise ValueError(f"pictures lie in [{low:.3g}, {high:.3g}] and must lie in [-1, 1]; scale them")
    colour = pictures.expand(-1, 3, -1, -1).to(next(vae.parameters()))
    return vae.encode(colour).latent_dist.sample(generator) * vae.config.scaling_factor


def decoder(vae: Any) -> Callable[[Tensor], Tensor]:
    """What an `ArchitecturePipeline` with released weights takes as `decode`."""

    def decode(latents: Float[Tensor, "b k y x"]) -> Float[Tensor, "b 3 h w"]:
        return vae.decode(latents.to(next(vae.parameters())) / vae.config.scaling_factor).sample

    return decode
