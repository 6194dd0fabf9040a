"""Two things composed by text and place with the bundled model, and what an exact parser reads in the pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, permutations, product
from typing import Any

import numpy as np
import torch

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.data import scenes
from saccade.experiments import Row
from saccade.mechanisms.canvas import Box
from saccade.metrics.composition import Composite, CompositionJudges, score_composition
from saccade.metrics.fidelity import Picture
from saccade.papers.lamic.groups import Entity
from saccade.papers.lamic.system import Lamic
from saccade.pipelines.words import piece_tokens

SIDE, TEXT = 64, 32  # pixels, text tokens
BOXES = (Box(x0=0, y0=0, x1=0.5, y1=1), Box(x0=0.5, y0=0, x1=1, y1=1))
LEFT = np.tile(np.arange(SIDE) < SIDE // 2, (SIDE, 1))
SHARED = "on a gray background"
Thing = tuple[str, str]  # colour, shape


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two things of different colour and shape, the first for the left half."""

    left: Thing
    right: Thing

    @property
    def texts(self) -> tuple[str, str]:
        """As the bundled model knows captions; every pair has as many words."""
        return f"a large {' '.join(self.left)} and", f"a large {' '.join(self.right)}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Easel:
    """A pipeline, and the pairs it draws side by side in `steps` steps."""

    pipe: Any
    pairs: Sequence[Pair]
    steps: int

    def draw(self, *systems: System) -> Picture:
        """All pairs at once, each from noise of its own."""
        prompts = [" ".join((*pair.texts, SHARED)) for pair in self.pairs]
        noise = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
        with attach(self.pipe, *systems):
            return self.pipe(
                prompts, height=SIDE, width=SIDE, num_inference_steps=self.steps, max_sequence_length=TEXT,
                generator=noise, output_type="np",
            ).images  # fmt: skip

    def lamic(self, first_stage: float) -> Lamic:
        """The system for all pairs, whose words stand at the same places."""
        *words, shared = piece_tokens(self.pipe, (*self.pairs[0].texts, SHARED), max_sequence_length=TEXT)
        entities = tuple(Entity(words=own, region=box) for own, box in zip(words, BOXES, strict=True))
        return Lamic(entities=entities, interaction=shared, first_stage=first_stage)

    def rows(self, pictures: Picture) -> Iterator[Row]:
        """A row for each pair."""
        for number, (picture, pair) in enumerate(zip(pictures, self.pairs, strict=True)):
            yield {"pair": number, **scored(picture[None], pair)}


def pairs(count: int) -> list[Pair]:
    """Combinations of two colours and two shapes, spread over all there are."""
    colours, shapes = permutations(scenes.COLOURS, 2), list(permutations(scenes.SHAPES, 2))
    every = [Pair(left=(a, s), right=(b, t)) for (a, b), (s, t) in product(colours, shapes)]
    return list(islice(every[:: max(len(every) // count, 1)], count))


def scored(picture: Picture, pair: Pair) -> Row:
    """What a picture shows of a pair.

    inclusion, filling  of LAMIC's scores, in percent
    both      whether both things are there, wherever
    swapped   whether a thing has the colour of one and the shape of the other
    seam      distance of the halves' backgrounds, as medians of their borders, in [0, 1]
    """
    asked = [
        Composite(phrase=" ".join(thing), region=region)
        for thing, region in ((pair.left, LEFT), (pair.right, ~LEFT))
    ]  # fmt: skip
    found = score_composition(picture, asked, CompositionJudges(detect=detect))
    seen = {(thing.colour, thing.shape) for thing in scenes.parse(picture[0]).things}
    mixed = {(pair.left[0], pair.right[1]), (pair.right[0], pair.left[1])}
    return {
        "inclusion": found.inclusion, "filling": found.filling, "both": float({pair.left, pair.right} <= seen),
        "swapped": float(bool(seen & mixed)), "seam": _seam(picture),
    }  # fmt: skip


def detect(picture: Picture, phrase: str) -> np.ndarray | None:
    """The first thing of this colour and shape, by the parser."""
    seen = (t for t in scenes.parse(picture[0]).things if phrase == f"{t.colour} {t.shape}")
    return next((thing.mask for thing in seen), None)


def _seam(picture: Picture) -> float:
    rows = np.concatenate((picture[0, :2], picture[0, -2:]))
    left, right = (np.median(half.reshape(-1, 3), axis=0) for half in (rows[:, : SIDE // 2], rows[:, SIDE // 2 :]))
    return float(np.abs(left - right).max())
