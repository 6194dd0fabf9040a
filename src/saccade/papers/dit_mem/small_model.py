"""A small Wan transformer on pixels, taught videos whose things move any way, under captions that do not say which.

What moves how is left open by the captions, so the model draws any motion; a memory can say which. Latents are pixels
and words one-hot: nothing but the transformer is trained, and it never sees the rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from saccade.data.scenes import Video, render_video
from saccade.models.scene_words import word_ids
from saccade.papers.dit_mem.config import MemoryEncoderConfig
from saccade.papers.dit_mem.rules import RULES, rule_video, vague_caption
from saccade.runs.denoising import rectified_flow
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from saccade.train.text import t5_ids
from saccade.train.video_flow import TIMES, VideoFlowLoss

WORDS = 6  # of a caption, pads included
DRAWN = 2  # times the side at which videos are rendered, and then averaged
READ = 48  # pixels that the parser needs
BLACK, UNIT = 15.0, 51.0  # of 255


@dataclass(frozen=True, kw_only=True)
class SmallVideos:
    """Sizes: `frames` frames of `side` pixels in patches of `patch`; `layers` blocks of `heads` x 24 channels.

    steps, batch  of its training on `count` videos
    """

    frames: int = 5
    side: int = 16
    patch: int = 4
    layers: int = 4
    heads: int = 4
    steps: int = 300
    batch: int = 32
    count: int = 560

    @property
    def width(self) -> int:
        """Of the transformer."""
        return 24 * self.heads

    def encoder(self, **changes: Any) -> MemoryEncoderConfig:
        """Of a memory for it: distinct tokens, one for each frame, under symmetric frequencies."""
        usual = MemoryEncoderConfig(
            dim=self.width, latent=(self.frames, self.side, self.side), channels=3, widths=(32, 64), heads=4,
            length=self.frames, stride=(1, 4, 4), pools=((1, 1, 1), (1, 1, 1)), freq_layout="symmetric",
        )  # fmt: skip
        return replace(usual, **changes)

    def transformer(self) -> WanTransformer3DModel:
        """Of random weights."""
        return WanTransformer3DModel(
            patch_size=(1, self.patch, self.patch), num_attention_heads=self.heads, attention_head_dim=24,
            in_channels=3, out_channels=3, text_dim=len(word_ids()), freq_dim=64, ffn_dim=3 * self.width,
            num_layers=self.layers, rope_max_seq_len=32,
        )  # fmt: skip

    def trained(self, seed: int, folder: Path) -> WanTransformer3DModel:
        """Taught videos of any motion, or taken from the folder; frozen."""
        torch.manual_seed(seed)
        model = self.transformer()
        length = Fit(
            steps=self.steps, seed=seed, precision="no", decay=0.98, save_every=100, sheet_every=10**6,
            optim=Optim(lr=2e-3, muon_lr=6e-3),
        )  # fmt: skip
        fit(AnyMotion(self, model, seed), length, folder, cpu=True)
        return model.eval().requires_grad_(False)

    def latents(self, videos: Sequence[Video]) -> Float[Tensor, "n 3 t h w"]:
        """Pixels, their background at 0 and in units of about their deviation, as autoencoders' latents are."""
        frames = np.stack([render_video(video, DRAWN * self.side) for video in videos])
        drawn = (torch.from_numpy(frames).float().movedim(-1, 2) - BLACK) / UNIT
        return F.avg_pool2d(drawn.flatten(0, 1), DRAWN).unflatten(0, drawn.shape[:2]).transpose(1, 2)

    @torch.no_grad()
    def draw(
        self, model: WanTransformer3DModel, words: Float[Tensor, "n w v"], *, steps: int, seed: int
    ) -> UInt8[np.ndarray, "n t s s 3"]:
        """A video of each caption, as large as the parser needs, by even Euler steps."""

        def predict(z: Tensor, t: Tensor) -> Tensor:
            return model(z, timestep=TIMES * t, encoder_hidden_states=words, return_dict=False)[0]

        shape = (len(words), 3, self.frames, self.side, self.side)
        drawn = rectified_flow(predict, torch.randn(shape, generator=torch.Generator().manual_seed(seed)), steps=steps)
        whole = (drawn * UNIT + BLACK).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()
        times = READ // self.side
        return whole.repeat(times, axis=2).repeat(times, axis=3)


def embed_words(captions: Sequence[str]) -> Float[Tensor, "n t v"]:
    """Word by word, one-hot, pads too."""
    return F.one_hot(t5_ids(captions, WORDS), len(word_ids())).float()


def any_video(rng: np.random.Generator, frames: int) -> Video:
    """A large thing on black of any looks that moves any way, whatever its shape."""
    way = rule_video(rng, frames=frames, shape=str(rng.choice([*RULES])))
    (mover,) = way.scene.things
    thing = replace(mover, shape=str(rng.choice([*RULES])), size="large")
    return replace(way, scene=replace(way.scene, things=(thing,), background="black"))


def small_rule_video(rng: np.random.Generator, frames: int, colour: str, shape: str) -> Video:
    """A large thing on black that keeps the rule."""
    video = rule_video(rng, frames=frames, colour=colour, shape=shape)
    (thing,) = video.scene.things
    return replace(video, scene=replace(video.scene, things=(replace(thing, size="large"),), background="black"))


class AnyMotion:
    """A `Task`: videos of any motion under captions that leave it open."""

    def __init__(self, sizes: SmallVideos, model: WanTransformer3DModel, seed: int) -> None:
        self.module, self.sizes = VideoFlowLoss(model), sizes
        videos = [any_video(np.random.default_rng([seed, i]), sizes.frames) for i in range(sizes.count)]
        self._latents, self._words = sizes.latents(videos), embed_words([vague_caption(video) for video in videos])

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model."""
        return {"sizes": self.sizes}

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        size = self.sizes.batch
        rows = rng.integers(len(self._latents), size=size)
        latents = self._latents[rows]
        return {
            "latents": latents, "words": self._words[rows],
            "noise": torch.from_numpy(rng.standard_normal(tuple(latents.shape), dtype=np.float32)),
            "t": torch.from_numpy(rng.normal(0.4, 1.2, size)).float().sigmoid(),
        }  # fmt: skip

    def uses_muon(self, name: str) -> bool:
        return "blocks." in name and "scale_shift" not in name

    def sheet(self) -> None:
        return None
