"""The videos a relation is learned from, as latents with the masks of their subjects and embedded captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from saccade.papers.dreamrelation.masks import latent_masks, read_frames, subject_masks
from saccade.train.pictures import to_tensor

FRAMES, MASKS, CAPTION = "frames", "masks", "caption.txt"


@dataclass(frozen=True, kw_only=True, eq=False)
class RelationClips:
    """Clips of one size, all of one relation.

    latents     (n c f h w), or (n c h w) of pictures; the mean where `deviation`, their spread, is given
    masks       of both subjects on the latents, in [0, 1]; None without hybrid mask training
    words       embedded captions; `words_mask` (n l), `pooled` (n c) for hosts that take them
    Raises ValueError for parts of other lengths or sizes.
    """

    latents: Float[Tensor, "n c *grid"]
    words: Float[Tensor, "n l k"]
    masks: Float[Tensor, "n 2 *grid"] | None = None
    deviation: Float[Tensor, "n c *grid"] | None = None
    words_mask: Tensor | None = None
    pooled: Tensor | None = None

    def __post_init__(self) -> None:
        parts = {name: value for name, value in vars(self).items() if value is not None}
        if len({len(value) for value in parts.values()}) > 1:
            raise ValueError(
                f"clips have parts of { ({name: len(v) for name, v in parts.items()}) } rows; give each one"
            )
        if self.masks is not None and self.masks.shape[2:] != self.latents.shape[2:]:
            raise ValueError(
                f"masks on {tuple(self.masks.shape[2:])} latents do not fit latents of {tuple(self.latents.shape[2:])}"
            )

    def __len__(self) -> int:
        return len(self.latents)

    def drawn(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        """Rows at random, with repetition; latents are a sample where their deviation is known."""
        rows = torch.from_numpy(rng.integers(len(self), size=size))
        found = {name: value[rows] for name, value in vars(self).items() if value is not None}
        if (deviation := found.pop("deviation", None)) is not None:
            noise = torch.from_numpy(rng.standard_normal(tuple(deviation.shape), dtype=np.float32))
            found["latents"] = found["latents"] + deviation * noise
        return found


@torch.no_grad()
def encode_clips(
    pipe: Any,
    videos: UInt8[np.ndarray, "n t h w 3"],
    masks: Float[Tensor, "n t 2 h w"] | None,
    captions: Sequence[str],
    *,
    text_tokens: int = 226,
) -> RelationClips:
    """Videos through the autoencoder and captions through the text encoder of a Wan pipeline.

    masks  of both subjects in pixels, as `subject_masks` gives them
    Raises ValueError for another pipeline, for counts that differ, and for frames the autoencoder does not take.
    """
    if "WanPipeline" not in {cls.__name__ for cls in type(pipe).__mro__}:
        raise ValueError(f"pipe={type(pipe).__name__} must be a WanPipeline; make RelationClips yourself for others")
    if not len(videos) == len(captions) == len(videos if masks is None else masks):
        raise ValueError(f"{len(videos)} videos, {len(captions)} captions, masks: give one of each for every video")
    vae, strides = pipe.vae, (pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial)
    if videos.shape[1] % strides[0] != 1 % strides[0]:
        raise ValueError(f"{videos.shape[1]} frames must be 1 above a multiple of {strides[0]} for this autoencoder")
    found = [vae.encode(to_tensor(video[None]).to(vae.device, vae.dtype)).latent_dist for video in videos]
    mean, spread = (torch.tensor(vae.config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    latents = torch.cat([each.mean for each in found]).cpu().float()
    words = [pipe.encode_prompt(c, do_classifier_free_guidance=False, max_sequence_length=text_tokens)[0].cpu().float()
             for c in captions]  # fmt: skip
    grid = (int(latents.shape[3]), int(latents.shape[4]))
    small = None if masks is None else torch.stack([latent_masks(each, grid, strides=strides) for each in masks])
    return RelationClips(
        latents=(latents - mean) / spread, deviation=torch.cat([each.std for each in found]).cpu().float() / spread,
        words=torch.cat(words), masks=None if small is None else small.transpose(1, 2),
    )  # fmt: skip


def read_clips(folder: str | Path) -> tuple[UInt8[np.ndarray, "n t h w 3"], Float[Tensor, "n t 2 h w"], list[str]]:
    """Videos, masks and captions of a folder of folders, each with `frames/`, `masks/` and `caption.txt`.

    Raises ValueError where one lacks any of these, or is of another size or length than the rest.
    """
    places = sorted(place for place in Path(folder).glob("*") if place.is_dir())
    if not places:
        raise ValueError(f"videos='{folder}' holds no folders of videos; give each one {FRAMES}/, {MASKS}/, {CAPTION}")
    videos, masks, captions = [], [], []
    for place in places:
        if not (place / CAPTION).is_file():
            raise ValueError(f"'{place}' has no {CAPTION}; say in it what its video shows")
        videos.append(read_frames(place / FRAMES))
        masks.append(subject_masks(read_frames(place / MASKS), frames=len(videos[-1])))
        captions.append((place / CAPTION).read_text().strip())
    if len({video.shape for video in videos} | {(*m.shape[:1], *m.shape[2:], 3) for m in masks}) > 1:
        raise ValueError(f"videos='{folder}' holds videos or masks of several sizes or lengths; cut them alike")
    return np.stack(videos), torch.stack(masks), captions
