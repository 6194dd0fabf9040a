"""Videos of a relation between two shapes: they approach, all but touch in the middle of the video, and go back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from saccade.data.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Scene, Thing, masks, render

SIDE, FRAMES = 48, 9
GAP = 0.04  # between the boxes where they are nearest, as a share of the side
STARTS = (0.16, 0.24)  # of the left thing's centre; the right one's is its mirror image
ROWS = (0.3, 0.7)
Kind = tuple[str, str]  # colour and shape
EXEMPLAR: tuple[Kind, Kind] = (("red", "circle"), ("blue", "square"))


@dataclass(frozen=True, kw_only=True)
class Bounce:
    """Two things, `first` of which is named first; `scene` is where they start, `reach` how far each goes.

    flipped   whether the first stands on the right
    """

    scene: Scene
    reach: float
    flipped: bool

    def at(self, frame: int, frames: int = FRAMES) -> Scene:
        """What one frame shows."""
        progress = 1 - abs(2 * frame / (frames - 1) - 1)  # 0, 1 in the middle, 0
        towards = -1 if self.flipped else 1
        ways = (towards * self.reach * progress, -towards * self.reach * progress)
        moved = tuple(replace(thing, x=thing.x + way) for thing, way in zip(self.scene.things, ways, strict=True))
        return replace(self.scene, things=moved)

    @property
    def caption(self) -> str:
        """In the words of the bundled models' captions."""
        ways = ("moving left then right", "moving right then left")
        said = ways if self.flipped else ways[::-1]
        one, two = (
            f"{_article(t.colour)} {t.colour} {t.shape} {way}" for t, way in zip(self.scene.things, said, strict=True)
        )
        return f"{one} and {two} on a {self.scene.background} background"

    def video(self, side: int = SIDE, frames: int = FRAMES) -> UInt8[np.ndarray, "t h w 3"]:
        """Its frames."""
        return np.stack([render(self.at(i, frames), side) for i in range(frames)])

    def masks(self, side: int = SIDE, frames: int = FRAMES) -> Float[Tensor, "t 2 h w"]:
        """The pixels of each subject, in the order of the caption."""
        return torch.from_numpy(np.stack([masks(self.at(i, frames), side) for i in range(frames)])).float()


def bounce(
    rng: np.random.Generator,
    kinds: tuple[Kind, Kind] = EXEMPLAR,
    *,
    sizes: Sequence[str] = tuple(SIZES),
    backgrounds: Sequence[str] = tuple(BACKGROUNDS),
) -> Bounce:
    """A random one of two kinds of things: sides, rows, sizes and background vary."""
    flipped = bool(rng.random() < 0.5)
    start, row = rng.uniform(*STARTS), rng.uniform(*ROWS)
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    things = tuple(
        Thing(
            colour=colour,
            shape=shape,
            size=sizes[int(rng.integers(len(sizes)))],
            x=1 - start if right else start,
            y=row,
        )
        for (colour, shape), right in zip(kinds, (flipped, not flipped), strict=True)
    )
    boxes = sorted(thing.box for thing in things)
    return Bounce(
        scene=Scene(things=things, background=background), reach=(boxes[1][0] - boxes[0][2] - GAP) / 2, flipped=flipped
    )


def exemplars(count: int, *, seed: int, **looks: Any) -> list[Bounce]:
    """So many of a red circle and a blue square; number i from `(seed, i)` alone; `looks` as of `bounce`."""
    return [bounce(np.random.default_rng([seed, i]), **looks) for i in range(count)]


def unseen(count: int, *, seed: int, **looks: Any) -> Iterator[Bounce]:
    """So many of two things that have neither colour nor both shapes of the exemplars, and differ in both."""
    own = {colour for colour, _ in EXEMPLAR}
    colours = [colour for colour in COLOURS if colour not in own]
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        one, two = (str(name) for name in rng.permutation(colours)[:2])
        shapes = ("circle", "square")
        while {*shapes} == {"circle", "square"}:
            shapes = tuple(str(name) for name in rng.permutation(SHAPES)[:2])
        yield bounce(rng, ((one, shapes[0]), (two, shapes[1])), **looks)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
