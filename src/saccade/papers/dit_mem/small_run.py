"""Encoders trained on the bundled video model, and how far what it then draws keeps the rule of the memory."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saccade.attach import attach
from saccade.experiments import Row
from saccade.papers.dit_mem.config import MemoryEncoderConfig
from saccade.papers.dit_mem.encoder import MemoryEncoder
from saccade.papers.dit_mem.rules import keeps_rule, vague_caption
from saccade.papers.dit_mem.scenes import LOOKS, SMALL, RuleBank, rule_examples
from saccade.papers.dit_mem.system import DiTMem
from saccade.papers.dit_mem.tokens import MemoryTokens
from saccade.papers.dit_mem.training import MemoryStage, train_encoder
from saccade.pipelines.loading import load_pipeline
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.video_sampling import draw_videos

NONE, RETRIEVED, RANDOM, OTHER, HIGH, LOW, RELEASED = (
    "no memory", "retrieved", "random", "retrieved, of another colour", "high branch alone", "low branch alone",
    "retrieved, released form",
)  # fmt: skip
ENCODERS: dict[str, MemoryEncoderConfig] = {
    "distinct": SMALL,
    "released": replace(SMALL, freq_layout="official", length=100, pools=((2, 1, 1), (2, 1, 1))),  # one frame is left
}
BANK, TRAINED, ASKED = 5000, 6000, 7000  # seeds of videos
SHOWN = 8  # videos of which the way is kept


@dataclass(frozen=True, kw_only=True)
class SmallRun:
    """What is trained and asked.

    steps   of training each encoder, on `batch` of `count` videos, each shown `shown` of a bank of `bank`
    asked   videos drawn in `sampling` steps, under each arm
    counts  other numbers of videos shown
    """

    model: str = "scenes-wan"
    steps: int = 140
    batch: int = 8
    bank: int = 112
    count: int = 112
    shown: int = 3
    asked: int = 16
    sampling: int = 8
    counts: tuple[int, ...] = (1, 6)

    def rows(self, seed: int, work: Path) -> Iterator[Row]:
        """Of all arms, one a video."""
        pipe = load_pipeline(self.model)
        bank = RuleBank.of(pipe, self.bank, seed=BANK + seed)
        asked = RuleBank.of(pipe, self.asked * 7, seed=ASKED + seed)
        asked = RuleBank(pipe, asked.videos[:: len(asked.videos) // self.asked][: self.asked])
        yield from self._told(pipe, asked, NONE, None, seed)
        for name, config in ENCODERS.items():
            encoder = self._encoder(pipe, bank, config, seed, work / f"{name}-{seed}")
            arms = self._arms(bank, asked, seed) if name == "distinct" else {RELEASED: self._near(bank, asked)}
            for arm, rows in arms.items():
                yield from self._told(pipe, asked, arm, seen(encoder, bank, rows, arm), seed)

    def _arms(self, bank: RuleBank, asked: RuleBank, seed: int) -> dict[str, Int[Tensor, "n k"]]:
        near, rng = self._near(bank, asked), torch.Generator().manual_seed(seed)
        chance = torch.randint(len(bank.videos), near.shape, generator=rng)
        more = {f"{k} shown": self._near(bank, asked, k) for k in self.counts}
        same = {RETRIEVED: near, HIGH: near, LOW: near}
        return {**same, RANDOM: chance, OTHER: other_colours(bank, asked, self.shown), **more}

    def _near(self, bank: RuleBank, asked: RuleBank, k: int | None = None) -> Int[Tensor, "n k"]:
        return bank.shown([vague_caption(video) for video in asked.videos], k or self.shown)

    def _encoder(
        self, pipe: Any, bank: RuleBank, config: MemoryEncoderConfig, seed: int, folder: Path
    ) -> MemoryEncoder:
        known = rule_examples(pipe, bank, self.count, self.shown, seed=TRAINED + seed)
        length = Fit(
            steps=self.steps, seed=seed, precision="no", decay=0.95, save_every=20, sheet_every=10**6,
            optim=Optim(lr=2e-3, muon_lr=6e-3, flatten=True, weight_decay=0),
        )  # fmt: skip
        stage = MemoryStage(fit=length, batch=self.batch)
        return train_encoder(pipe.transformer, known, replace(config, seed=seed), stage, folder, cpu=True)

    def _told(self, pipe: Any, asked: RuleBank, arm: str, memory: MemoryTokens | None, seed: int) -> Iterator[Row]:
        captions = [vague_caption(video) for video in asked.videos]
        with no_progress_bar(pipe), attach(pipe, DiTMem(memory=memory)):
            drawn = draw_videos(pipe, captions, steps=self.sampling, seed=ASKED)
        for number, (frames, video) in enumerate(zip(drawn, asked.videos, strict=True)):
            (thing,), found = video.scene.things, asdict(keeps_rule([*frames], video))
            way = found.pop("way")
            colour = float(found.pop("colour") == thing.colour)
            shown = {"way": way, "shape": thing.shape} if number < SHOWN and seed == 0 else {}
            yield {"arm": arm, "video": seed * self.asked + number, **found, "colour": colour, **shown}


@torch.no_grad()
def seen(encoder: MemoryEncoder, bank: RuleBank, rows: Int[Tensor, "n k"], arm: str) -> MemoryTokens:
    """The memory of an arm: of one branch alone where it says so."""
    memory = encoder.memory(bank.latents[rows])
    half = memory.n // 2
    part = {HIGH: slice(None, half), LOW: slice(half, None)}.get(arm, slice(None))
    return MemoryTokens(memory.tokens[:, part], None if memory.counts is None else memory.counts[part])


def other_colours(bank: RuleBank, asked: RuleBank, k: int) -> Int[Tensor, "n k"]:
    """Videos of the asked shape, all of one colour that was not asked for."""
    looks = [(v.scene.things[0].colour, v.scene.things[0].shape) for v in bank.videos]
    found = []
    for number, video in enumerate(asked.videos):
        (thing,) = video.scene.things
        others = sorted({c for c, shape in looks if shape == thing.shape and c != thing.colour})
        wanted = others[number % len(others)], thing.shape
        found.append(np.resize([i for i, look in enumerate(looks) if look == wanted], k))
    return torch.from_numpy(np.array(found))


QUICK = SmallRun(steps=2, batch=2, bank=len(LOOKS), count=4, shown=1, asked=2, sampling=1, counts=(2,))
