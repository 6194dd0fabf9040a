"""Stage three for videos: rectified flow in Wan's conventions, the text encoder and the autoencoder frozen.

    x_t = (1 - t) x_0 + t e,    loss = mean |v(x_t, 1000 t, caption) - (e - x_0)|^2,    logit(t) ~ N(mean, std)

Wan's text pads are zeros and carry no mask, so how many there are matters: training pads to many lengths.
A first frame is a latent by itself and costs a fraction of its video: what things look like is mostly learnt there.

Source: as `saccade.train.flow`; Wan Team, Wan (2025).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from saccade.data.scenes import describe_video
from saccade.train.checks import check_share
from saccade.train.latent_cache import make_video_cache
from saccade.train.loop import Fit
from saccade.train.pictures import videos
from saccade.train.plots import tile
from saccade.train.settings import flat
from saccade.train.text import WIDTH, embed, t5_ids
from saccade.train.video_sampling import draw_videos

TIMES = 1000  # the pipeline's timestep of pure noise


@dataclass(frozen=True, kw_only=True)
class VideoFlowStage:
    """`frames`: of videos, each with its share of the steps, its batch and the size of its pool; `side`: in pixels.

    `stills`: share of the steps that take the first frames alone of `still_batch` videos of the first length.
    `padded`: tokens to which captions are padded, each with its share. `drop`: share of captions replaced by the empty
    one, for guidance. `mean`, `std`: of the times' logits.
    Raises ValueError for options out of range.
    """

    fit: Fit = field(default_factory=lambda: Fit(steps=3000, precision="no", save_every=50, log_every=25))
    side: int = 48
    frames: tuple[int, ...] = (9, 13)
    shares: tuple[float, ...] = (0.85, 0.15)
    batches: tuple[int, ...] = (32, 24)
    pools: tuple[int, ...] = (12000, 2000)
    stills: float = 0.5
    still_batch: int = 160
    padded: tuple[int, ...] = (WIDTH, 32, 48, 77, 128, 226, 512)
    padded_shares: tuple[float, ...] = (0.2, 0.5, 0.1, 0.08, 0.05, 0.03, 0.04)
    drop: float = 0.1
    mean: float = 0.4
    std: float = 1.2

    def __post_init__(self) -> None:
        check_share(drop=self.drop, stills=self.stills)
        if len({len(self.frames), len(self.shares), len(self.batches), len(self.pools)}) > 1:
            raise ValueError(
                f"frames={self.frames}, shares={self.shares}, batches={self.batches} and pools={self.pools} "
                "must be of one length, an entry for each number of frames"
            )
        if len(self.padded) != len(self.padded_shares):
            raise ValueError(
                f"padded={self.padded} and padded_shares={self.padded_shares} must be of one length; give each a share"
            )


class VideoFlowLoss(nn.Module):
    """The loss of a batch of noised latents."""

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        t = batch["t"][:, None, None, None, None]
        with sdpa_kernel(SDPBackend.MATH):  # so short: no slower, and a fifth of a step faster in bfloat16 on the CPU
            velocity = self.transformer(
                hidden_states=(1 - t) * batch["latents"] + t * batch["noise"],
                timestep=TIMES * batch["t"],
                encoder_hidden_states=batch["words"],
                return_dict=False,
            )[0]
        return {"loss": (velocity.float() - (batch["noise"] - batch["latents"])).square().mean()}


class VideoFlowTask:
    """A `Task`: draw videos by their captions. `folder` keeps the pools."""

    def __init__(self, pipe: WanPipeline, stage: VideoFlowStage, folder: Path) -> None:
        self.pipe, self.stage = pipe, stage
        self.module = VideoFlowLoss(pipe.transformer)
        given = {"side": stage.side, "seed": stage.fit.seed}
        self.pools = {
            frames: make_video_cache(pipe.vae, folder, n, frames=frames, **given)
            for frames, n in zip(stage.frames, stage.pools, strict=True)
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        if rng.random() < self.stage.stills:
            frames, size, still = self.stage.frames[0], self.stage.still_batch, True
        else:
            kind, still = _choice(rng, self.stage.shares), False
            frames, size = self.stage.frames[kind], self.stage.batches[kind]
        latents, texts = self._examples(frames, size, rng)
        latents = latents[:, :, :1] if still else latents
        return {
            "latents": latents,
            "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
            "t": torch.from_numpy(rng.normal(self.stage.mean, self.stage.std, size)).float().sigmoid(),
            "words": self._encode(texts, self.stage.padded[_choice(rng, self.stage.padded_shares)]),
        }

    def _examples(
        self, frames: int, size: int, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "b c t h w"], list[str]]:
        pool = self.pools[frames]
        chosen = rng.integers(len(pool.scenes), size=size)
        texts = [describe_video(pool.scenes[i], rng).text for i in chosen]
        dropped = rng.random(size) < self.stage.drop
        kept = ["" if gone else text for gone, text in zip(dropped, texts, strict=True)]
        return torch.from_numpy(pool.latents[chosen]).float(), kept

    @torch.no_grad()
    def _encode(self, texts: list[str], padded: int) -> Float[Tensor, "b n c"]:
        """Embeddings of captions, followed by zeros."""
        encoder = self.pipe.text_encoder
        words = embed(encoder, t5_ids(texts).to(encoder.device))
        return F.pad(words, (0, 0, 0, padded - words.shape[1]))

    def uses_muon(self, name: str) -> bool:
        return "blocks." in name and "scale_shift" not in name

    def sheet(self) -> UInt8[np.ndarray, "h w 3"]:
        """Eight held-out captions of one thing, a video a row."""
        frames, rng = self.stage.frames[0], np.random.default_rng(1)
        drawn = videos(8, seed=1, frames=frames, counts=(1,), split="held-out")
        texts = [describe_video(video, rng).text for video in drawn]
        made = draw_videos(self.pipe, texts, steps=20, frames=frames, side=self.stage.side)
        return tile([*np.concatenate(made)], columns=frames)


def _choice(rng: np.random.Generator, shares: tuple[float, ...]) -> int:
    return int(rng.choice(len(shares), p=np.array(shares) / sum(shares)))
