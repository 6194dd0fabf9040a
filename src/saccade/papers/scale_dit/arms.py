"""What the experiment compares on the bundled model: dense, windows, and windows with the anchor, tuned or not."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from saccade.core.layout import Layout
from saccade.data.scenes import describe
from saccade.papers.scale_dit.anchor_layout import anchored, square
from saccade.papers.scale_dit.lora import add_lora_
from saccade.papers.scale_dit.low_stream import LowStream
from saccade.papers.scale_dit.system import ScaleDiT
from saccade.papers.scale_dit.training import Example, encoded, logit_normal, tune
from saccade.pipelines.loading import load_pipeline

TEXT = 32  # tokens to which captions are padded
PIXELS = 8  # per image token of the bundled model, along a side
SEED = 11
COUNTS = (1, 2, 3)  # things of a scene, in turn


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Of the large picture, its copy and the pictures LoRA is tuned on, in tokens along a side."""

    high: int = 32
    low: int = 8
    trained: int = 16
    window: int = 8

    @property
    def ratio(self) -> int:
        """Of the large picture to its copy."""
        return self.high // self.low


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Steps of AdamW on LoRA of a rank, each on `batch` of `pool` scenes; captions are dropped at a rate."""

    steps: int = 100
    batch: int = 4
    pool: int = 128
    rank: int = 16
    lr: float = 2e-3
    drop: float = 0.1


@dataclass(frozen=True, kw_only=True)
class AnchorArm:
    """One way to draw the large picture.

    windows  whether its tokens see those near by only
    anchor   whether they see the small picture, at `scaled` places
    tuned    whether LoRA was tuned for it
    ntk      factor on the rotary base
    """

    label: str
    windows: bool = True
    anchor: bool = False
    scaled: bool = True
    tuned: bool = False
    ntk: float = 1.0

    @property
    def part(self) -> str:
        """Its name in the experiment."""
        return "_".join(re.findall(r"\w+", self.label.lower()))

    def system(self, window: int, *, training: bool = False) -> ScaleDiT | None:
        """The mask. The copy sees the text in training and in sampling."""
        if not self.windows:
            return None
        return ScaleDiT.training(window=window) if training else ScaleDiT(window=window, low_sees_text=True)

    def layout(self, size: Sides) -> Layout:
        """The tokens of the large picture's forwards."""
        return anchored(text=TEXT, high=square(size.high), low=square(size.low) if self.anchor else None)

    def pairs(self, size: Sides) -> float:
        """Share of the pairs that a dense model of the picture alone computes."""
        layout, system = self.layout(size), self.system(size.window)
        pairs = layout.n**2 if system is None else system.mask().bind(layout, layout).pairs()
        return pairs / (TEXT + size.high**2) ** 2


DENSE = AnchorArm(label="dense", windows=False)
WINDOWS = AnchorArm(label="windows")
ANCHOR = AnchorArm(label="windows + anchor", anchor=True)
UNSCALED = AnchorArm(label="windows + anchor, unscaled", anchor=True, scaled=False)
NTK = AnchorArm(label="windows + anchor, NTK 10", anchor=True, ntk=10.0)
WINDOWS_TUNED = AnchorArm(label="windows, tuned", tuned=True)
ANCHOR_TUNED = AnchorArm(label="windows + anchor, tuned", anchor=True, tuned=True)
UNSCALED_TUNED = AnchorArm(label="windows + anchor, unscaled, tuned", anchor=True, scaled=False, tuned=True)
ARMS = (DENSE, WINDOWS, ANCHOR, UNSCALED, NTK, WINDOWS_TUNED, ANCHOR_TUNED, UNSCALED_TUNED)


@contextmanager
def made(model: str, arm: AnchorArm, size: Sides, tuning: Tuning) -> Iterator[tuple[Any, LowStream, list[float]]]:
    """The pipeline as an arm has it, its stream, and the losses of its tuning."""
    pipe = load_pipeline(model)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        parameters = add_lora_(pipe.transformer, rank=tuning.rank) if arm.tuned else []
    with LowStream(pipe.transformer, ntk=arm.ntk, lora_alone=arm.tuned and not arm.anchor) as stream:
        system, losses = arm.system(size.window, training=True), []
        if arm.tuned:
            pool = Pool(pipe, arm, size.trained, size.ratio, tuning.pool)
            losses = list(tune(stream, system, parameters, pool.batches(tuning), lr=tuning.lr))
        yield pipe, stream, losses


class Pool:
    """Scenes with their captions, encoded once, at a size in tokens along a side."""

    def __init__(self, pipe: Any, arm: AnchorArm, side: int, ratio: int, scenes: int, *, split: Any = "train") -> None:
        from saccade.train.pictures import pictures
        from saccade.train.pictures import scenes as drawn

        sampled = drawn(scenes, seed=SEED, counts=COUNTS, split=split)
        self.latents, low = encoded(pipe, pictures(sampled, PIXELS * side).astype(np.float32) / 255, ratio, arm.scaled)
        self.low = low if arm.anchor else None
        texts = [describe(scene, np.random.default_rng([SEED, i])).text for i, scene in enumerate(sampled)]
        with torch.no_grad():
            words, pooled, _ = pipe.encode_prompt(prompt=["", *texts], prompt_2=None, max_sequence_length=TEXT)
        self.text = {"encoder_hidden_states": words.float(), "pooled_projections": pooled.float()}
        self.ids = pipe._prepare_latent_image_ids(1, side, side, torch.device("cpu"), torch.float32)

    def example(self, rows: np.ndarray, t: torch.Tensor, rng: np.random.Generator, dropped: np.ndarray) -> Example:
        """Some of them at times `t`; those `dropped` with the empty caption."""
        low = None if self.low is None else type(self.low)(**{**vars(self.low), "tokens": self.low.tokens[rows]})
        latents = self.latents[rows]
        return Example(
            latents=latents, low=low, ids=self.ids, t=t,
            text={name: value[np.where(dropped, 0, rows + 1)] for name, value in self.text.items()},
            noise=torch.from_numpy(rng.standard_normal(latents.shape)).float(),
        )  # fmt: skip

    def batches(self, tuning: Tuning) -> Iterator[Example]:
        """Examples drawn at random."""
        rng = np.random.default_rng(SEED)
        for _ in range(tuning.steps):
            rows = rng.integers(len(self.latents), size=tuning.batch)
            t = logit_normal(tuning.batch, rng)
            yield self.example(rows, t, rng, rng.random(tuning.batch) < tuning.drop)
