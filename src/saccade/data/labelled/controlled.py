"""Captioned scenes with a picture that says where things are: a mask coloured by shape, or a sketch of the outlines.

The condition of a picture is a mapping: `picture` (n 3 h w), `modality` (n), 0 for a mask and 1 for a sketch, and
`ids` (n words), the numbers of the caption's words. Without a caption `null` leaves the first two as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from saccade.core.checks import check_word
from saccade.data.labelled.source import as_pictures, check_counts
from saccade.data.scenes import SHAPES, Prompt, Scene, Split, describe, masks, render, sample
from saccade.data.scenes.word_numbers import IDS, PADDING, word_numbers
from saccade.data.scenes.words import MAX_WORDS

Kind = Literal["mask", "sketch"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TONES = dict(zip(SHAPES, ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)), strict=True))  # of a mask, on black
Controlled = tuple[Float[Tensor, "n 3 h w"], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ControlledScenes:
    """A `Source` of scenes of up to `things` things.

    kinds     of pictures that are given, in even shares
    dropped   share of them that training replaces by zeros
    seed      of the held-out ones
    Raises ValueError for options out of range.
    """

    side: int = 32
    things: int = 2
    kinds: tuple[Kind, ...] = KINDS
    dropped: float = 0.05
    seed: int = 0
    channels: int = 3
    classes: int = PADDING
    words: int = MAX_WORDS
    names: tuple[str, ...] = (*IDS, "nothing")

    def __post_init__(self) -> None:
        check_counts(things=self.things, kinds=len(self.kinds))
        for kind in self.kinds:
            check_word(KINDS, kinds=kind)
        if not 0 <= self.dropped <= 1:
            raise ValueError(f"dropped={self.dropped} must be in [0, 1], the share of pictures that are not given")

    def batch(self, rng: np.random.Generator, n: int) -> Controlled:
        """`n` new scenes."""
        scenes = self._sampled(rng, n, "train")
        x, condition = self.shown(
            scenes, [describe(scene, rng) for scene in scenes], rng.integers(len(self.kinds), size=n)
        )
        gone = torch.from_numpy(rng.random(n) < self.dropped)
        condition["picture"][gone] = 0
        return x, condition

    def held_out(self, n: int) -> Controlled:
        """`n` scenes of combinations that training never shows, always the same ones, kinds in turn."""
        scenes, prompts = self.captioned(n)
        return self.shown(scenes, prompts, np.arange(n))

    def captioned(self, n: int) -> tuple[list[Scene], list[Prompt]]:
        """The held-out scenes, with their captions."""
        scenes = self._sampled(np.random.default_rng(self.seed), n, "held-out")
        rng = np.random.default_rng([self.seed, 1])
        return scenes, [describe(scene, rng) for scene in scenes]

    def shown(self, scenes: list[Scene], prompts: list[Prompt], kinds: np.ndarray) -> Controlled:
        """Pictures of the scenes, and the condition they are drawn under; `kinds` counts through those given."""
        chosen: list[Kind] = [self.kinds[int(kind) % len(self.kinds)] for kind in kinds]
        drawn = [control(scene, kind, self.side) for scene, kind in zip(scenes, chosen, strict=True)]
        condition = {
            "picture": as_pictures(np.stack(drawn)),
            "modality": torch.tensor([KINDS.index(kind) for kind in chosen]),
            "ids": word_numbers(prompts, self.words),
        }
        return as_pictures(np.stack([render(scene, self.side) for scene in scenes])), condition

    def null(self, condition: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same without a caption."""
        return {**condition, "ids": torch.full_like(condition["ids"], self.classes)}

    def _sampled(self, rng: np.random.Generator, n: int, split: Split) -> list[Scene]:
        return [sample(rng, count=1 + int(rng.integers(self.things)), split=split) for _ in range(n)]


def control(scene: Scene, kind: Kind, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """The picture that says where the things of a scene are, on black."""
    found = np.zeros((side, side, 3), np.uint8)
    for thing, owned in zip(scene.things, masks(scene, side), strict=True):
        found[owned if kind == "mask" else outline(owned)] = TONES[thing.shape] if kind == "mask" else 255
    return found


def outline(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels of a mask that touch what is outside of it."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)


def open_controlled(
    side: int = 32, *, things: int = 2, kinds: str = "both", dropped: float = 0.05, seed: int = 0
) -> ControlledScenes:
    """Scenes with captions, and of `kinds` both, mask or sketch."""
    check_word(("both", *KINDS), kinds=kinds)
    chosen: tuple[Kind, ...] = tuple(kind for kind in KINDS if kinds in ("both", kind))
    return ControlledScenes(side=side, things=things, kinds=chosen, dropped=dropped, seed=seed)
