"""Latents of many scenes or videos, made once and kept on disk, so that no autoencoder runs in the training loop."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from jaxtyping import Float, Float16
from torch import Tensor

from saccade.data.scenes import Scene, Video
from saccade.train.checkpoint import write_atomically
from saccade.train.pictures import clips, pictures, scenes, to_tensor, videos

CHUNK_PIXELS = 64 * 64 * 128
COUNTS = (1, 2, 3, 2, 3, 2)  # things per scene, in turn: binding is learned from several
VIDEO_COUNTS = (1, 1, 1, 1, 2)  # things per video

Drawn = TypeVar("Drawn", Scene, Video)
Latents = Float16[np.ndarray, "s *latent"]


@dataclass(frozen=True)
class LatentCache(Generic[Drawn]):
    """Scenes or videos with their scaled latents: packed (scenes, image tokens, channels), or (videos, c, t, h, w)."""

    scenes: list[Drawn]
    latents: Latents


def make_latent_cache(vae: AutoencoderKL, folder: Path, n: int, *, side: int, seed: int) -> LatentCache[Scene]:
    """Draw, render at `side` pixels and encode `n` scenes, or read the latents that `folder` has of just these.

    Raises ValueError for a file of latents that is cut.
    """
    drawn = scenes(n, seed=seed, counts=COUNTS)
    file = folder / f"latents-{side}-{n}-{seed}-{digest(vae)}.npy"
    return LatentCache(drawn, _kept(file, lambda: encode(vae, drawn, side)))


def make_video_cache(
    vae: AutoencoderKLWan, folder: Path, n: int, *, side: int, frames: int, seed: int
) -> LatentCache[Video]:
    """The same of `n` videos of so many frames.

    Raises ValueError for a file of latents that is cut.
    """
    drawn = videos(n, seed=seed, frames=frames, counts=VIDEO_COUNTS)
    file = folder / f"latents-{side}-{frames}-{n}-{seed}-{digest(vae)}.npy"
    return LatentCache(drawn, _kept(file, lambda: encode_videos(vae, drawn, side)))


def digest(vae: AutoencoderKL | AutoencoderKLWan) -> str:
    """Of what turns pictures into latents: another autoencoder has another."""
    names = ("shift_factor", "scaling_factor") if isinstance(vae, AutoencoderKL) else ("latents_mean", "latents_std")
    found = sha256(repr([vae.config[name] for name in names]).encode())
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


@torch.no_grad()
def encode_videos(vae: AutoencoderKLWan, drawn: list[Video], side: int) -> Float16[np.ndarray, "s c t h w"]:
    """Mean latents as the pipeline's transformer sees them: standardised."""
    size = max(1, CHUNK_PIXELS // (side**2 * drawn[0].frames))
    mean, deviation = (torch.tensor(vae.config[name]).view(-1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    parts = []
    for start in range(0, len(drawn), size):
        images = to_tensor(clips(drawn[start : start + size], side))
        latents = vae.encode(images.to(vae.device)).latent_dist.mean.cpu()  # type: ignore[union-attr]
        parts.append(((latents - mean) / deviation).half().numpy())
    return np.concatenate(parts)


def pack(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n k"]:
    """2 x 2 latents to one token, by the pipeline's own helper."""

    return FluxPipeline._pack_latents(latents, *latents.shape)


def _kept(file: Path, make: Callable[[], Latents]) -> Latents:
    """What `file` holds, made first where it is not there."""
    if not file.exists():
        write_atomically(file, lambda partial: _write(partial, make()))
    try:
        return np.load(file, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is no whole array: {error}; remove it, it is made again") from None


def _write(path: Path, latents: Latents) -> None:
    with path.open("wb") as file:
        np.save(file, latents)
