"""Stage one: an autoencoder for sharp coloured shapes.

loss = L1 + MSE + kl_weight * KL(q(z | x) || N(0, 1))        means over pixels and over latents
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.pictures import pictures, scenes, to_bytes, to_tensor
from saccade.train.plots import tile
from saccade.train.settings import flat


@dataclass(frozen=True, kw_only=True)
class AutoencoderStage:
    """`pool`: pictures rendered once and drawn from; `size`: their side in pixels.

    `decoder_only`: leave the encoder as it is, so that latents made with it stay true.
    """

    fit: Fit = field(default_factory=lambda: Fit(minutes=12, optim=Optim(lr=2e-3, weight_decay=0), decay=0.995))
    batch: int = 8
    pool: int = 6000
    size: int = 64
    kl_weight: float = 1e-5
    decoder_only: bool = False


class AutoencoderLoss(nn.Module):
    """The losses of a batch of pictures."""

    def __init__(self, vae: AutoencoderKL, kl_weight: float) -> None:
        super().__init__()
        self.vae = vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kl_weight = kl_weight

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        latents = self.vae.encode(images.to(memory_format=torch.channels_last)).latent_dist  # type: ignore[union-attr]
        drawn = self.vae.decode(latents.sample()).sample.float()  # type: ignore[union-attr]
        error = F.l1_loss(drawn, images) + F.mse_loss(drawn, images)
        kl = latents.kl().float().mean() / latents.mean[0].numel()
        return {"loss": error + self.kl_weight * kl, "error": error, "kl": kl}


class AutoencoderTask:
    """A `Task`: reconstruct rendered scenes."""

    def __init__(self, vae: AutoencoderKL, stage: AutoencoderStage) -> None:
        self.module = AutoencoderLoss(vae, stage.kl_weight)
        vae.encoder.requires_grad_(not stage.decoder_only)
        self.stage = stage
        self.pool = pictures(scenes(stage.pool, seed=stage.fit.seed, counts=(1, 2, 3)), stage.size)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> Float[Tensor, "b 3 h w"]:
        """Pictures at random, each shifted by up to three pixels round the edge so that no grid phase is special."""
        chosen = self.pool[rng.integers(len(self.pool), size=self.stage.batch)]
        return to_tensor(np.roll(chosen, tuple(rng.integers(-3, 4, size=2)), axis=(1, 2)))

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> UInt8[np.ndarray, "h w 3"]:
        """Eight pictures above their reconstructions."""
        images = self.pool[:8]
        return tile([*images, *reconstruct(self.module.vae, images)], columns=8)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Pictures through the autoencoder and back, by the mean latents."""
    latents = vae.encode(to_tensor(images).to(vae.device)).latent_dist.mean  # type: ignore[union-attr]
    return to_bytes(vae.decode(latents).sample)  # type: ignore[union-attr]


@torch.no_grad()
def standardise_(vae: AutoencoderKL, images: UInt8[np.ndarray, "b h w 3"]) -> None:
    """Set `shift_factor` and `scaling_factor` so that `(latents - shift) * scaling` has mean 0 and deviation 1."""
    latents = vae.encode(to_tensor(images).to(vae.device)).latent_dist.mean  # type: ignore[union-attr]
    vae.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())
