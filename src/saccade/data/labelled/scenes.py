"""Labelled scenes: one thing on a plain background, the label its shape, its colour, or both.

Drawn and rendered in about 50 microseconds each, so a source is made anew by every run and never stored.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from saccade.core.checks import check_word
from saccade.data.labelled.source import Pictures, check_counts
from saccade.data.scenes import COLOURS, SHAPES, Scene, masks, render, sample
from saccade.data.scenes.raster import MIN_SIZE

Label = Literal["shape", "colour", "kind"]
NAMES: dict[Label, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "kind": tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneSource(Pictures):
    """Pictures whose held-out part comes with its scenes and the masks of their things."""

    drawn: tuple[Scene, ...]

    def scenes(self, n: int) -> list[Scene]:
        """What the first `n` held-out pictures show."""
        return [self.drawn[i] for i in self.held_order(n)]

    def masks(self, n: int) -> Bool[np.ndarray, "n s s"]:
        """Pixels of the thing in each of the first `n` held-out pictures: those at least half covered."""
        return np.stack(
            [_shrunk(masks(scene, _drawn_side(self.side))[0], self.side) >= 0.5 for scene in self.scenes(n)]
        )


def open_scenes(
    side: int = 32, *, label: Label = "kind", count: int = 16384, held: int = 4096, seed: int = 0
) -> SceneSource:
    """Draw `count` scenes to train on and `held` of another stream of random numbers.

    `side` below 32: rendered larger and averaged down, since the renderer draws no smaller picture.
    """
    check_word(get_args(Label), label=label)
    check_counts(side=side, count=count, held=held)
    train, kept = (_draw(n, (seed, stream)) for stream, n in enumerate((count, held)))
    return SceneSource(
        names=NAMES[label],
        train=_rendered(train, side),
        labels=_labels(train, label),
        held=_rendered(kept, side),
        held_labels=_labels(kept, label),
        drawn=tuple(kept),
    )


def _draw(n: int, seed: tuple[int, int]) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample(rng, count=1) for _ in range(n)]


def _labels(drawn: list[Scene], label: Label) -> Int64[np.ndarray, " n"]:
    places = {name: i for i, name in enumerate(NAMES[label])}
    things = (scene.things[0] for scene in drawn)
    words = ({"shape": t.shape, "colour": t.colour, "kind": f"{t.colour} {t.shape}"}[label] for t in things)
    return np.array([places[word] for word in words], np.int64)


def _rendered(drawn: list[Scene], side: int) -> UInt8[np.ndarray, "n s s 3"]:
    return np.stack([(_shrunk(render(scene, _drawn_side(side)), side) + 0.5).astype(np.uint8) for scene in drawn])


def _drawn_side(side: int) -> int:
    return side * -(-MIN_SIZE // side)


def _shrunk(plane: np.ndarray, side: int) -> np.ndarray:
    """Means over the blocks of pixels that make one pixel of a picture of `side`."""
    block = len(plane) // side
    return plane.reshape(side, block, side, block, *plane.shape[2:]).mean((1, 3))
