"""Stage one: an autoencoder for sharp coloured shapes, still or moving.

loss = L1 + MSE + kl_weight * KL(q(z | x) || N(0, 1))        means over pixels and over latents
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, unpatchify
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes, to_tensor
from saccade.train.plots import tile
from saccade.train.settings import flat
from saccade.train.still_twin import still_twin

Pixels = UInt8[np.ndarray, "b *t h w 3"]  # pictures, or videos of t frames
Autoencoder = AutoencoderKL | AutoencoderKLWan


@dataclass(frozen=True, kw_only=True)
class AutoencoderStage:
    """`pool`: pictures or videos rendered once and drawn from; `size`: their side in pixels.

    `decoder_only`: leave the encoder as it is, so that latents made with it stay true.
    """

    fit: Fit = field(default_factory=lambda: Fit(minutes=12, optim=Optim(lr=2e-3, weight_decay=0), decay=0.995))
    batch: int = 8
    pool: int = 6000
    size: int = 64
    kl_weight: float = 1e-5
    decoder_only: bool = False


class AutoencoderLoss(nn.Module):
    """The losses of a batch of pictures or videos."""

    def __init__(self, vae: Autoencoder, kl_weight: float) -> None:
        super().__init__()
        still = isinstance(vae, AutoencoderKL)
        self.memory_format = torch.channels_last if still else torch.contiguous_format
        self.vae = vae.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.kl_weight = kl_weight
        self._twin = () if still else (still_twin(vae),)  # a tuple: no submodule

    def forward(self, images: Float[Tensor, "b 3 *t h w"]) -> dict[str, Tensor]:
        vae = self._twin[0] if self._twin and images.shape[2] == 1 else self.vae
        latents = vae.encode(images.to(memory_format=self.memory_format)).latent_dist  # type: ignore[union-attr]
        drawn = decode(vae, latents.sample()).float()
        error = F.l1_loss(drawn, images) + F.mse_loss(drawn, images)
        kl = latents.kl().float().sum() / latents.mean.numel()
        return {"loss": error + self.kl_weight * kl, "error": error, "kl": kl}


def decode(vae: Autoencoder, latents: Tensor) -> Float[Tensor, "b 3 *t h w"]:
    """What the decoder makes of `latents`, before it is clipped.

    Wan's autoencoder clips to [-1, 1] by itself, which leaves no gradient to what lies beyond: so the chunks of frames
    are taken from its decoder as they leave it.
    """
    if isinstance(vae, AutoencoderKL):
        return vae.decode(latents).sample  # type: ignore[union-attr]
    chunks: list[Tensor] = []

    def keep(module: nn.Module, given: object, made: Tensor) -> None:
        chunks.append(made)

    handle = vae.decoder.register_forward_hook(keep)
    try:
        vae.decode(latents)
    finally:
        handle.remove()
    return unpatchify(torch.cat(chunks, dim=2), vae.config["patch_size"] or 1)


class AutoencoderTask:
    """A `Task`: reconstruct the pictures or videos of `pool`."""

    def __init__(self, vae: Autoencoder, stage: AutoencoderStage, pool: Pixels) -> None:
        self.module = AutoencoderLoss(vae, stage.kl_weight)
        vae.encoder.requires_grad_(not stage.decoder_only)
        self.stage, self.pool = stage, pool

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> Float[Tensor, "b 3 *t h w"]:
        """Some at random, each shifted by up to three pixels round the edge so that no grid phase is special."""
        chosen = self.pool[rng.integers(len(self.pool), size=self.stage.batch)]
        return to_tensor(np.roll(chosen, tuple(rng.integers(-3, 4, size=2)), axis=(-3, -2)))

    def uses_muon(self, name: str) -> bool:
        return self.stage.fit.optim.flatten  # then its convolutions too

    def sheet(self) -> UInt8[np.ndarray, "h w 3"]:
        """Eight pictures, or all frames of two videos, above their reconstructions."""
        if self.pool.ndim == 4:
            return tile([*self.pool[:8], *reconstruct(self.module.vae, self.pool[:8])], columns=8)
        videos = self.pool[:2]
        return tile([*np.concatenate((*videos, *reconstruct(self.module.vae, videos)))], columns=videos.shape[1])


@torch.no_grad()
def reconstruct(vae: Autoencoder, images: Pixels) -> Pixels:
    """Pictures or videos through the autoencoder and back, by the mean latents."""
    latents = vae.encode(to_tensor(images).to(vae.device)).latent_dist.mean  # type: ignore[union-attr]
    return to_bytes(vae.decode(latents).sample)  # type: ignore[union-attr]


@torch.no_grad()
def standardise_(vae: AutoencoderKL, images: UInt8[np.ndarray, "b h w 3"]) -> None:
    """Set `shift_factor` and `scaling_factor` so that `(latents - shift) * scaling` has mean 0 and deviation 1."""
    latents = vae.encode(to_tensor(images).to(vae.device)).latent_dist.mean  # type: ignore[union-attr]
    vae.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())
