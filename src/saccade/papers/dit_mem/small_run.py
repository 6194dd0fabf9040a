"""Encoders trained on a small frozen video model, and how far what it then draws keeps the rule of the memory."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.attach import attach
from saccade.data.scenes import COLOURS, Video
from saccade.experiments import Row
from saccade.papers.dit_mem.config import MemoryEncoderConfig
from saccade.papers.dit_mem.encoder import MemoryEncoder
from saccade.papers.dit_mem.examples import Examples, nearest_rows
from saccade.papers.dit_mem.retrieval import VideoIndex
from saccade.papers.dit_mem.rules import RULES, keeps_rule, vague_caption
from saccade.papers.dit_mem.small_model import SmallVideos, embed_words, small_rule_video
from saccade.papers.dit_mem.system import DiTMem
from saccade.papers.dit_mem.tokens import MemoryTokens
from saccade.papers.dit_mem.training import MemoryStage, train_encoder
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim

NONE, RETRIEVED, RANDOM, OTHER, HIGH, LOW, RELEASED = (
    "no memory", "retrieved", "random", "retrieved, of another colour", "high branch alone", "low branch alone",
    "retrieved, released form",
)  # fmt: skip
LOOKS = tuple((colour, shape) for shape in RULES for colour in COLOURS)
BANK, TRAINED, ASKED = 5000, 6000, 7000  # seeds of videos
SHOWN = 8  # videos of which the way is kept


@dataclass(frozen=True, eq=False)
class Shelf:
    """Videos that keep the rules, colours and shapes in turn, and an index of their captions."""

    sizes: SmallVideos
    videos: tuple[Video, ...]

    @classmethod
    def of(cls, sizes: SmallVideos, count: int, *, seed: int) -> "Shelf":
        """Video i from `(seed, i)` alone."""
        looks = [LOOKS[i % len(LOOKS)] for i in range(count)]
        return cls(sizes, tuple(
            small_rule_video(np.random.default_rng([seed, i]), sizes.frames, *look) for i, look in enumerate(looks)
        ))  # fmt: skip

    @cached_property
    def latents(self) -> Float[Tensor, "n 3 t h w"]:
        """As the model takes them."""
        return self.sizes.latents(self.videos)

    @property
    def captions(self) -> list[str]:
        """Which do not say the rule."""
        return [vague_caption(video) for video in self.videos]

    @property
    def looks(self) -> list[tuple[str, str]]:
        """Colour and shape of each."""
        return [(video.scene.things[0].colour, video.scene.things[0].shape) for video in self.videos]

    def nearest(self, captions: list[str], k: int) -> Int[Tensor, "n k"]:
        """Rows of the k nearest videos, by the words of their captions."""
        names = [str(i) for i in range(len(self.videos))]
        index = VideoIndex.of(self.captions, names, lambda given: embed_words(given).sum(1))
        return nearest_rows(index, captions, k, rows={name: i for i, name in enumerate(names)})

    def other_colours(self, looks: list[tuple[str, str]], k: int) -> Int[Tensor, "n k"]:
        """Videos of each shape, all of one colour that was not asked for."""
        found = []
        for number, (colour, shape) in enumerate(looks):
            others = [each for each in COLOURS if each != colour]
            wanted = others[number % len(others)], shape
            found.append(np.resize([i for i, look in enumerate(self.looks) if look == wanted], k))
        return torch.from_numpy(np.array(found))


@dataclass(frozen=True, kw_only=True)
class SmallRun:
    """What is trained and asked.

    videos  the model and its training, once
    steps   of training each encoder, on `batch` of `count` videos, each shown `shown` of a bank of `bank`
    asked   a video for each colour and shape so many times, in `sampling` steps, under each arm
    counts  other numbers of videos shown
    """

    videos: SmallVideos = field(default_factory=SmallVideos)
    steps: int = 200
    batch: int = 16
    bank: int = 112
    count: int = 224
    shown: int = 3
    asked: int = 1
    sampling: int = 16
    counts: tuple[int, ...] = (1, 4)

    @property
    def encoders(self) -> dict[str, MemoryEncoderConfig]:
        """Distinct tokens and symmetric frequencies, and as released, where one frame is left of five."""
        released = {"freq_layout": "official", "length": 100, "pools": ((2, 1, 1), (2, 1, 1))}
        return {RETRIEVED: self.videos.encoder(), RELEASED: self.videos.encoder(**released)}

    def rows(self, seed: int, work: Path) -> Iterator[Row]:
        """Of all arms, one a video."""
        model = self.videos.trained(0, work / "model")
        bank = Shelf.of(self.videos, self.bank, seed=BANK + seed)
        asked = Shelf.of(self.videos, self.asked * len(LOOKS), seed=ASKED + seed)
        yield from self._told(model, asked, NONE, None, seed)
        for name, config in self.encoders.items():
            encoder = self._encoder(
                model, bank, config, seed, work / f"{'distinct' if name == RETRIEVED else 'released'}-{seed}"
            )
            arms = self._arms(bank, asked, seed)
            for arm, rows in (arms if name == RETRIEVED else {RELEASED: arms[RETRIEVED]}).items():
                yield from self._told(model, asked, arm, memory_of(encoder, bank.latents[rows], arm), seed)

    def _arms(self, bank: Shelf, asked: Shelf, seed: int) -> dict[str, Int[Tensor, "n k"]]:
        near, rng = bank.nearest(asked.captions, self.shown), torch.Generator().manual_seed(seed)
        chance = torch.randint(len(bank.videos), near.shape, generator=rng)
        other = bank.other_colours(asked.looks, self.shown)
        more = {f"{k} shown": bank.nearest(asked.captions, k) for k in self.counts}
        return {RETRIEVED: near, HIGH: near, LOW: near, RANDOM: chance, OTHER: other, **more}

    def _encoder(self, model: Any, bank: Shelf, config: MemoryEncoderConfig, seed: int, folder: Path) -> MemoryEncoder:
        own = Shelf.of(self.videos, self.count, seed=TRAINED + seed)
        known = Examples(
            latents=own.latents, words=embed_words(own.captions), bank=bank.latents,
            nearest=bank.nearest(own.captions, self.shown),
        )  # fmt: skip
        length = Fit(
            steps=self.steps, seed=seed, precision="no", decay=0.95, save_every=50, sheet_every=10**6,
            optim=Optim(lr=2e-3, muon_lr=6e-3, flatten=True, weight_decay=0),
        )  # fmt: skip
        stage = MemoryStage(fit=length, batch=self.batch, shift=8.0, bell=False)
        return train_encoder(model, known, replace(config, seed=seed), stage, folder, cpu=True)

    def _told(self, model: Any, asked: Shelf, arm: str, memory: MemoryTokens | None, seed: int) -> Iterator[Row]:
        with attach(model, DiTMem(memory=memory)):
            drawn = self.videos.draw(model, embed_words(asked.captions), steps=self.sampling, seed=ASKED + seed)
        for number, (frames, video) in enumerate(zip(drawn, asked.videos, strict=True)):
            (thing,), found = video.scene.things, asdict(keeps_rule([*frames], video))
            way, colour = found.pop("way"), float(found.pop("colour") == thing.colour)
            shown = {"way": way, "shape": thing.shape} if number % 7 < 2 and seed == 0 else {}
            yield {"arm": arm, "video": seed * len(asked.videos) + number, **found, "colour": colour, **shown}


@torch.no_grad()
def memory_of(encoder: MemoryEncoder, latents: Float[Tensor, "b k c d h w"], arm: str) -> MemoryTokens:
    """Of one branch alone where the arm says so."""
    memory = encoder.memory(latents)
    half = memory.n // 2
    part = {HIGH: slice(None, half), LOW: slice(half, None)}.get(arm, slice(None))
    return MemoryTokens(memory.tokens[:, part], None if memory.counts is None else memory.counts[part])


QUICK = SmallRun(
    videos=SmallVideos(layers=1, heads=1, steps=2, batch=2, count=4), steps=2, batch=2, bank=len(LOOKS), count=4,
    shown=1, sampling=1, counts=(1, 4),
)  # fmt: skip
