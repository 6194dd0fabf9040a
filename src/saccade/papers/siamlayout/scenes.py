"""Rendered scenes with the boxes of their things, and what a parser reads of a layout in a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.data import scenes
from saccade.papers.siamlayout.boxes import CaptionedBox, captioned, overlap
from saccade.papers.siamlayout.examples import Examples

SIDE, TEXT = 64, 32  # pixels; tokens of a caption
ENCODING = {"slots": 3, "words": 6, "padded": 8}  # of the bundled model's adapters


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxedScenes:
    """Scenes, a caption of each, and boxes with captions of their things."""

    scenes: Sequence[scenes.Scene]
    captions: Sequence[str]
    layouts: Sequence[Sequence[CaptionedBox]]

    def pictures(self, side: int = SIDE) -> np.ndarray:
        """Rendered, in [0, 1]."""
        return np.stack([scenes.render(scene, side) for scene in self.scenes]).astype(np.float32) / 255

    def examples(self, pipe: Any, side: int = SIDE) -> Examples:
        """Encoded by a pipeline that reads captions of scenes."""
        return Examples.of(pipe, self.pictures(side), self.captions, self.layouts, text_tokens=TEXT, **ENCODING)


def boxed_scenes(
    count: int, *, seed: int, things: Sequence[int] = (1, 2, 3), split: scenes.Split = "train", places: bool = True
) -> BoxedScenes:
    """Scene i from `(seed, i)` alone, of one of the numbers of `things` in turn.

    places  captions may say where things are, and how large; without, colour, shape and background alone
    """
    found, captions = [], []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        found.append(scene := scenes.sample(rng, count=things[i % len(things)], split=split))
        captions.append(scenes.describe(scene, rng).text if places else bare_caption(scene))
    return BoxedScenes(scenes=found, captions=captions, layouts=[layout_of(scene) for scene in found])


def layout_of(scene: scenes.Scene) -> list[CaptionedBox]:
    """The box of each thing, with its size, colour and shape."""
    names = [named(thing.size, thing.colour, thing.shape) for thing in scene.things]
    return captioned(names, [[float(x) for x in np.clip(thing.box, 0, 1)] for thing in scene.things])


def bare_caption(scene: scenes.Scene) -> str:
    """Colours, shapes and the background."""
    things = " and ".join(named(thing.colour, thing.shape) for thing in scene.things)
    return f"{things} on a {scene.background} background"


def named(*words: str) -> str:
    """With its article."""
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


@dataclass(frozen=True, kw_only=True)
class LayoutReading:
    """What a picture keeps of a layout, means over its boxes.

    iou       of the box asked for and the box of the thing that was read; 0 for what is not there
    centre    distance of their centres in sides of the picture; 1 for what is not there
    there     whether a thing of the colour and shape is anywhere
    placed    whether its centre lies in the box, too
    colour    whether the thing nearest to the box has the colour
    """

    iou: float
    centre: float
    there: float
    placed: float
    colour: float


def read_layout(picture: np.ndarray | scenes.Parsed, wanted: scenes.Scene) -> LayoutReading:
    """How well a picture of a scene's captions shows its things where they should be, by the exact parser."""
    seen = picture if isinstance(picture, scenes.Parsed) else scenes.parse(picture)
    rows = [_one(seen, thing) for thing in wanted.things]
    iou, centre, there, placed, colour = (float(np.mean(column)) for column in zip(*rows, strict=True))
    return LayoutReading(iou=iou, centre=centre, there=there, placed=placed, colour=colour)


def _one(seen: scenes.Parsed, wanted: scenes.Thing) -> tuple[float, float, float, float, float]:
    alike = [thing for thing in seen.things if (thing.colour, thing.shape) == (wanted.colour, wanted.shape)]
    away = [np.hypot(thing.x - wanted.x, thing.y - wanted.y) for thing in seen.things]
    nearest = seen.things[int(np.argmin(away))] if away else None
    colour = float(nearest is not None and nearest.colour == wanted.colour)
    if not alike:
        return 0.0, 1.0, 0.0, 0.0, colour
    best = max(alike, key=lambda seen: (overlap(seen.box, wanted.box), -np.hypot(seen.x - wanted.x, seen.y - wanted.y)))
    centre = float(np.hypot(best.x - wanted.x, best.y - wanted.y))
    x0, y0, x1, y1 = wanted.box
    placed = float(x0 <= best.x <= x1 and y0 <= best.y <= y1)
    return overlap(best.box, wanted.box), min(centre, 1.0), 1.0, placed, colour
