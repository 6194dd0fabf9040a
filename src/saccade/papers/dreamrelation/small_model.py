"""A small Wan transformer for videos of two shapes, whose latents are pixels, and what it learns before any relation.

A caption is three words for each thing: colour, shape, and how it moves. Words are one-hot, beside the number of their
thing. "bouncing" is a word that this first training never shows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from saccade.data.scenes import COLOURS, MOTIONS, SHAPES, Motion, Scene, Thing, Video, render_video
from saccade.papers.dreamrelation.bounces import Bounce, Kind
from saccade.runs.inversion import sample_euler
from saccade.train.video_flow import TIMES, VideoFlowLoss

BOUNCING = "bouncing"
WORDS = (*COLOURS, *SHAPES, *MOTIONS, BOUNCING)
THINGS = 2
DRAWN = 4  # times as large pictures are rendered, then averaged
Caption = tuple[tuple[Kind, str], ...]  # of each thing its kind and its motion
DIRECTIONS = ("still", "left", "right", "up", "down")


@dataclass(frozen=True, kw_only=True)
class SmallVideos:
    """Sizes of the model and of its videos, on black: `frames` of `side` pixels, cut into tokens of `patch` pixels."""

    side: int = 12
    frames: int = 5
    patch: int = 3
    heads: int = 4
    head_dim: int = 16
    layers: int = 4

    def transformer(self) -> WanTransformer3DModel:
        """Of random weights."""
        return WanTransformer3DModel(
            patch_size=(1, self.patch, self.patch), num_attention_heads=self.heads, attention_head_dim=self.head_dim,
            in_channels=3, out_channels=3, text_dim=len(WORDS) + THINGS, freq_dim=64,
            ffn_dim=3 * self.heads * self.head_dim, num_layers=self.layers, rope_max_seq_len=32,
        )  # fmt: skip

    def shrunk(self, pixels: UInt8[np.ndarray, "t h w 3"]) -> Float[Tensor, "3 t side side"]:
        """Rendered frames at the model's size, in [-1, 1]."""
        x = torch.from_numpy(pixels).movedim(-1, 0).float() / 127.5 - 1
        return F.avg_pool2d(x, pixels.shape[1] // self.side)

    def exemplar(self, drawn: Bounce) -> Float[Tensor, "3 t side side"]:
        """A relation's video."""
        return self.shrunk(drawn.video(DRAWN * self.side, self.frames))

    def enlarged(self, latents: Float[Tensor, "3 t side side"], times: int = DRAWN) -> UInt8[np.ndarray, "t h w 3"]:
        """Frames as the parser takes them: every pixel `times` as large."""
        x = ((latents.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(0, -1).numpy()
        return x.repeat(times, axis=1).repeat(times, axis=2)

    @torch.no_grad()
    def sample(
        self, transformer: Any, words: Float[Tensor, "b l k"], *, steps: int, seed: int
    ) -> Float[Tensor, "b 3 t h w"]:
        """Videos by Euler steps, each from noise of its own seed."""
        shape = (3, self.frames, self.side, self.side)
        noise = torch.stack([torch.randn(shape, generator=_seeded(seed + i)) for i in range(len(words))])

        def velocity(z: Tensor, sigma: float) -> Tensor:
            time = torch.full((len(z),), TIMES * sigma)
            return transformer(hidden_states=z, timestep=time, encoder_hidden_states=words, return_dict=False)[0]

        return sample_euler(velocity, noise, torch.linspace(1, 0, steps + 1).tolist())


def embedded(caption: Caption) -> Float[Tensor, "l k"]:
    """The words of a caption, one-hot, each with the number of its thing."""
    rows = []
    for number, ((colour, shape), motion) in enumerate(caption):
        own = F.one_hot(torch.tensor([WORDS.index(word) for word in (colour, shape, motion)]), len(WORDS))
        rows.append(torch.cat((own, F.one_hot(torch.tensor([number] * len(own)), THINGS)), dim=1))
    return torch.cat(rows).float()


def caption_of(drawn: Bounce) -> Caption:
    """What a caption says of a relation."""
    return tuple(((thing.colour, thing.shape), BOUNCING) for thing in drawn.scene.things)


def random_video(rng: np.random.Generator, frames: int) -> Video:
    """Two large things on black that start apart, each still or on a straight way."""
    while True:
        things = tuple(_thing(rng) for _ in range(THINGS))
        apart = max(abs(things[0].x - things[1].x), abs(things[0].y - things[1].y)) > 0.3
        ways = tuple(_motion(rng) for _ in range(THINGS))
        video = Video(scene=Scene(things=things, background="black"), motions=ways, frames=frames)
        if apart and things[0].colour != things[1].colour and _plain(video):
            return video


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Videos of random motions with their words."""

    latents: Float[Tensor, "n 3 t h w"]
    words: Float[Tensor, "n l k"]

    @classmethod
    def drawn(cls, size: SmallVideos, count: int, *, seed: int) -> "Pool":
        """Number i from `(seed, i)` alone."""
        videos = [random_video(np.random.default_rng([seed, i]), size.frames) for i in range(count)]
        said = [tuple(((t.colour, t.shape), v.motion_words(i)) for i, t in enumerate(v.scene.things)) for v in videos]
        latents = [size.shrunk(render_video(video, DRAWN * size.side)) for video in videos]
        return cls(latents=torch.stack(latents), words=torch.stack([embedded(each) for each in said]))


class PretrainTask:
    """A `Task`: random motions by their captions."""

    def __init__(self, transformer: WanTransformer3DModel, pool: Pool, batch: int) -> None:
        self.module, self.pool, self.rows = VideoFlowLoss(transformer), pool, batch

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = torch.from_numpy(rng.integers(len(self.pool.latents), size=self.rows))
        latents = self.pool.latents[chosen]
        return {
            "latents": latents, "words": self.pool.words[chosen],
            "noise": torch.from_numpy(rng.standard_normal(tuple(latents.shape), dtype=np.float32)),
            "t": torch.from_numpy(rng.random(self.rows, dtype=np.float32)),
        }  # fmt: skip

    def uses_muon(self, name: str) -> bool:
        return "blocks." in name and "scale_shift" not in name

    def sheet(self) -> None:
        return None


def _thing(rng: np.random.Generator) -> Thing:
    colour, shape = (str(rng.choice([*names])) for names in (COLOURS, SHAPES))
    x, y = (float(v) for v in rng.uniform(0.18, 0.82, 2))
    return Thing(colour=colour, shape=shape, size="large", x=x, y=y)


def _motion(rng: np.random.Generator) -> Motion:
    direction = DIRECTIONS[rng.integers(len(DIRECTIONS))]
    return Motion(direction=direction, travel=0.0 if direction == "still" else float(rng.uniform(0.3, 0.6)))


def _plain(video: Video) -> bool:
    try:
        return all(video.motion_words(i) for i in range(THINGS))
    except ValueError:
        return False


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
