"""Latents of many scenes, made once and kept on disk, so that no autoencoder runs in the training loop."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from jaxtyping import Float, Float16
from torch import Tensor

from saccade.data.scenes import Scene
from saccade.train.checkpoint import write_atomically
from saccade.train.pictures import pictures, scenes, to_tensor

CHUNK_PIXELS = 64 * 64 * 128
COUNTS = (1, 2, 3, 2, 3, 2)  # things per scene, in turn: binding is learned from several


@dataclass(frozen=True)
class LatentCache:
    """Scenes with their scaled, packed latents (scenes, image tokens, channels)."""

    scenes: list[Scene]
    latents: Float16[np.ndarray, "s n c"]


def make_latent_cache(vae: AutoencoderKL, folder: Path, n: int, *, side: int, seed: int) -> LatentCache:
    """Draw, render at `side` pixels and encode `n` scenes, or read the latents that `folder` has of just these.

    Raises ValueError for a file of latents that is cut.
    """
    drawn = scenes(n, seed=seed, counts=COUNTS)
    file = folder / f"latents-{side}-{n}-{seed}-{digest(vae)}.npy"
    if not file.exists():
        write_atomically(file, lambda partial: _write(partial, encode(vae, drawn, side)))
    try:
        return LatentCache(drawn, np.load(file, mmap_mode="r"))
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is no whole array: {error}; remove it, it is made again") from None


def digest(vae: AutoencoderKL) -> str:
    """Of what turns pictures into latents: another autoencoder has another."""
    found = sha256(repr([vae.config["shift_factor"], vae.config["scaling_factor"]]).encode())
    for name, value in vae.state_dict().items():
        if not name.startswith("decoder"):
            found.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:8]


@torch.no_grad()
def encode(vae: AutoencoderKL, drawn: list[Scene], side: int) -> Float16[np.ndarray, "s n c"]:
    """Mean latents as the pipeline's transformer sees them: shifted, scaled, packed 2 x 2."""
    size = max(1, CHUNK_PIXELS // side**2)
    shift, scale = vae.config["shift_factor"], vae.config["scaling_factor"]
    parts = []
    for start in range(0, len(drawn), size):
        images = to_tensor(pictures(drawn[start : start + size], side))
        latents = vae.encode(images.to(vae.device)).latent_dist.mean  # type: ignore[union-attr]
        parts.append(pack((latents - shift) * scale).half().cpu().numpy())
    return np.concatenate(parts)


def pack(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n k"]:
    """2 x 2 latents to one token, by the pipeline's own helper."""

    return FluxPipeline._pack_latents(latents, *latents.shape)


def _write(path: Path, latents: Float16[np.ndarray, "s n c"]) -> None:
    with path.open("wb") as file:
        np.save(file, latents)
