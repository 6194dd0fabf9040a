"""Banks and training videos of rules on the bundled model: rendered, encoded, and found by captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.data.scenes import COLOURS, Video
from saccade.papers.dit_mem.config import MemoryEncoderConfig
from saccade.papers.dit_mem.examples import Examples, nearest_rows
from saccade.papers.dit_mem.retrieval import VideoIndex
from saccade.papers.dit_mem.rules import RULES, rule_video, vague_caption
from saccade.train.latent_cache import encode_videos
from saccade.train.text import embed, t5_ids

SIDE = 48
TEXT = 32  # words that captions are padded to
SMALL = MemoryEncoderConfig(
    dim=192, latent=(5, 12, 12), channels=8, widths=(64, 96), heads=4, length=5, stride=(1, 4, 4),
    pools=((1, 1, 1), (1, 1, 1)), freq_layout="symmetric",
)  # fmt: skip
LOOKS = tuple((colour, shape) for shape in RULES for colour in COLOURS)


@dataclass(frozen=True, eq=False)
class RuleBank:
    """Videos that keep the rules, their latents, and an index of their captions by the pipeline's own text encoder."""

    pipe: Any
    videos: tuple[Video, ...]

    @classmethod
    def of(cls, pipe: Any, count: int, *, seed: int, frames: int = 9) -> "RuleBank":
        """`count` videos, video i from `(seed, i)` alone; colours and shapes in turn."""
        looks = (LOOKS[i % len(LOOKS)] for i in range(count))
        return cls(pipe, tuple(
            rule_video(np.random.default_rng([seed, i]), frames=frames, colour=colour, shape=shape)
            for i, (colour, shape) in enumerate(looks)
        ))  # fmt: skip

    @cached_property
    def latents(self) -> Float[Tensor, "m c d h w"]:
        """As the transformer takes them."""
        return torch.from_numpy(encode_videos(self.pipe.vae, list(self.videos), SIDE)).float()

    @cached_property
    def index(self) -> VideoIndex:
        """Of captions; the name of a video is its row."""
        captions = [vague_caption(video) for video in self.videos]
        return VideoIndex.of(captions, [str(i) for i in range(len(captions))], self.mean_words)

    @torch.no_grad()
    def mean_words(self, captions: Sequence[str]) -> Float[Tensor, "n e"]:
        """The mean of a caption's embedded words."""
        words = embed_captions(self.pipe, captions)
        return words.sum(1) / (words != 0).any(-1).sum(1, keepdim=True)

    def shown(self, captions: Sequence[str], k: int) -> Tensor:
        """Rows of the k nearest videos of each caption (n k)."""
        rows = {str(i): i for i in range(len(self.videos))}
        return nearest_rows(self.index, captions, k, rows=rows)


@torch.no_grad()
def embed_captions(pipe: Any, captions: Sequence[str]) -> Float[Tensor, "n t e"]:
    """As the pipeline gives them to the transformer."""
    encoder = pipe.text_encoder
    words = embed(encoder, t5_ids(captions).to(encoder.device))
    return torch.nn.functional.pad(words, (0, 0, 0, TEXT - words.shape[1]))


def rule_examples(pipe: Any, bank: RuleBank, count: int, k: int, *, seed: int) -> Examples:
    """`count` videos to train on, none of which is in the bank."""
    own = RuleBank.of(pipe, count, seed=seed, frames=bank.videos[0].frames)
    captions = [vague_caption(video) for video in own.videos]
    return Examples(
        latents=own.latents, words=embed_captions(pipe, captions), bank=bank.latents, nearest=bank.shown(captions, k)
    )
