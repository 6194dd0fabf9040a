"""Captioned scenes of one object: a source of pictures with word numbers, and scores of what a model makes of them."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from saccade.data.labelled import as_pictures
from saccade.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    Prompt,
    Scene,
    Split,
    describe,
    judge,
    masks,
    render,
    sample,
)
from saccade.data.scenes.word_numbers import IDS as IDS
from saccade.data.scenes.word_numbers import PADDING as PADDING
from saccade.data.scenes.word_numbers import WORDS as WORDS
from saccade.data.scenes.word_numbers import word_numbers as word_numbers

SEED = 0  # of held-out scenes and their captions


@dataclass(frozen=True, kw_only=True)
class CaptionedScenes:
    """A `Source` whose condition is a caption, as word numbers; nothing but padding is the null condition."""

    side: int = 32
    channels: int = 3
    classes: int = PADDING
    names: tuple[str, ...] = (*IDS, "nothing")

    def batch(self, rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
        """`n` new pictures and their captions."""
        return self._shown(_sampled(rng, n, "train"), rng)

    def held_out(self, n: int) -> tuple[Tensor, Tensor]:
        """`n` pictures of combinations of object, colour, size and place that training never shows."""
        return self._shown(held_out_scenes(n), np.random.default_rng(SEED))

    def _shown(self, scenes: list[Scene], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        pictures = as_pictures(np.stack([render(scene, self.side) for scene in scenes]))
        return pictures, word_numbers([describe(scene, rng) for scene in scenes])


def held_out_scenes(n: int) -> list[Scene]:
    """Always the same ones."""
    return _sampled(np.random.default_rng(SEED), n, "held-out")


def held_out_prompts(n: int) -> list[Prompt]:
    """Their captions."""
    rng = np.random.default_rng(SEED)
    return [describe(scene, rng) for scene in held_out_scenes(n)]


def overlap(picture: np.ndarray, scene: Scene) -> float:
    """Intersection over union of an object's exact mask and the pixels (0 to 255) nearer to its colour than to the
    background's.
    """
    colour, ground = (np.array(c) for c in (COLOURS[scene.things[0].colour], BACKGROUNDS[scene.background]))
    seen = np.linalg.norm(picture - colour, axis=-1) < np.linalg.norm(picture - ground, axis=-1)
    true = masks(scene, len(picture))[0]
    return float((seen & true).sum() / (seen | true).sum())


def keeps_place(picture: np.ndarray, prompt: Prompt) -> bool:
    """Whether a picture shows its object where the caption says, read at twice its size."""
    return judge(picture.repeat(2, axis=0).repeat(2, axis=1), prompt).place == 1


def _sampled(rng: np.random.Generator, n: int, split: Split) -> list[Scene]:
    return [sample(rng, count=1, split=split) for _ in range(n)]
