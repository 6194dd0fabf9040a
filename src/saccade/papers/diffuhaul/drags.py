"""Drags of rendered scenes: an object in a corner or at an edge goes to another, a second object stays; drawn alike.

Scenes of one layout are a batch: they differ in colours, shapes and ground, and their captions have the same words in
the same places, but for these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.data import scenes
from saccade.experiments import Row
from saccade.metrics.fidelity import Picture
from saccade.papers.diffuhaul.blobs import Blob
from saccade.papers.diffuhaul.drag_scores import mean_colours, score_drag
from saccade.papers.diffuhaul.flow_host import FlowHost
from saccade.papers.diffuhaul.system import DiffUHaul
from saccade.papers.diffuhaul.trajectory import Drag, haul_generated, haul_photo
from saccade.pipelines.flow import Flow
from saccade.pipelines.words import word_tokens
from saccade.runs.inversion import invert_euler

SIDE, TEXT, NEAR, BEST_PSNR = 64, 32, 0.1, 60.0
DILATION = 8  # pixels: the two latent pixels that are free beyond the blobs
WAYS = (  # of the dragged object, and where the other stands
    ("top left", "bottom right", "center"), ("bottom right", "top left", "center"),
    ("top right", "bottom left", "center"), ("bottom left", "top right", "center"),
    ("left", "right", "bottom"), ("top", "bottom", "left"), ("right", "top left", "bottom right"),
    ("bottom", "top right", "top left"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One drag: the dragged thing, the other one, and the ground they stand on."""

    dragged: tuple[str, str]
    other: tuple[str, str]
    ground: str
    way: tuple[str, str, str]

    def scene(self, place: str) -> scenes.Scene:
        """With the dragged thing at a place."""
        things = ((*self.dragged, place), (*self.other, self.way[2]))
        made = tuple(_thing(*each) for each in things)
        return scenes.Scene(things=made, background=self.ground)

    def caption(self, place: str) -> str:
        """Of that scene."""
        one, two = (" ".join(each) for each in (self.dragged, self.other))
        return f"a large {one} at the {place} and a large {two} at the {self.way[2]} on a {self.ground} background"

    def picture(self, place: str) -> Picture:
        """Of that scene, (1 h w 3) in [0, 1]."""
        return scenes.render(self.scene(place), SIDE)[None].astype(np.float32) / 255


def _thing(colour: str, shape: str, place: str) -> scenes.Thing:
    x, y = scenes.PLACES[place]
    return scenes.Thing(colour=colour, shape=shape, size="large", x=x, y=y)


def batches(count: int) -> Iterator[list[Case]]:
    """`count` cases for each way."""
    rng = np.random.default_rng(0)
    for way in WAYS:
        yield [_case(rng, way) for _ in range(count)]


def _case(rng: np.random.Generator, way: tuple[str, str, str]) -> Case:
    one, two = rng.permutation(list(scenes.COLOURS))[:2]
    shapes, ground = rng.choice(list(scenes.SHAPES), 2), rng.choice(list(scenes.BACKGROUNDS))
    return Case(dragged=(str(one), str(shapes[0])), other=(str(two), str(shapes[1])), ground=str(ground), way=way)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dragging:
    """The bundled model, and how many steps it takes."""

    pipe: Any
    steps: int

    def host(self) -> FlowHost:
        """The model at the scenes' size."""
        return FlowHost(flow=Flow(pipe=self.pipe, height=SIDE, width=SIDE, text_tokens=TEXT), steps=self.steps)

    def system(self, cases: Sequence[Case], **options: Any) -> DiffUHaul:
        """Blobs of the two places, all alike in a batch, and the words of the two objects."""
        start, end, stays = cases[0].way
        old, new, other = (_blob(place, name) for place, name in ((start, "one"), (end, "one"), (stays, "other")))
        words = tuple(self._words(cases[0], start, thing) for thing in (cases[0].dragged, cases[0].other))
        theirs = tuple(self._words(cases[0], end, thing) for thing in (cases[0].dragged, cases[0].other))
        return DiffUHaul(source=(old, other), target=(new, other), words=words, target_words=theirs, **options)

    def _words(self, case: Case, place: str, thing: tuple[str, str]) -> tuple[int, ...]:
        return tuple(word_tokens(self.pipe, case.caption(place), " ".join(thing), TEXT))

    def drag(self, cases: Sequence[Case], seed: int, *, buckets: int, fresh: str = "bucket", **options: Any) -> Picture:
        """The targets, from photos noised anew in each bucket."""
        host, drag = self.host(), self._drag(cases, buckets, fresh, options)
        noise = torch.cat([host.start(seed + i) for i in range(len(cases))])
        generator = torch.Generator("cpu").manual_seed(seed)
        found = haul_photo(host, drag, self._clean(host, cases), noise, generator)
        return self._targets(host, found)

    def inverted(self, cases: Sequence[Case], **options: Any) -> Picture:
        """The targets, side by side with sources from the photos' own noise, found by inversion."""
        host, drag = self.host(), self._drag(cases, 1, "once", options)
        predict = host.predictor(drag.prompts[0], drag.layouts[0])
        levels = {sigma: step for step, sigma in enumerate(host.sigmas)}
        clean = self._clean(host, cases)
        noise = invert_euler(lambda z, sigma: predict(z, min(levels[sigma], host.steps - 1)), clean, host.sigmas)
        return self._targets(host, haul_generated(host, drag, noise))

    def _drag(self, cases: Sequence[Case], buckets: int, fresh: Any, options: dict[str, Any]) -> Drag:
        start, end, _ = cases[0].way
        prompts = [case.caption(start) for case in cases], [case.caption(end) for case in cases]
        return Drag(system=self.system(cases, **options), prompts=prompts, buckets=buckets, fresh_noise=fresh)

    def _clean(self, host: FlowHost, cases: Sequence[Case]) -> Float[Tensor, "n ..."]:
        return host.encode(np.concatenate([case.picture(case.way[0]) for case in cases]))

    def _targets(self, host: FlowHost, found: Tensor) -> Picture:
        return host.decode(found[len(found) // 2 :])


def _blob(place: str, name: str) -> Blob:
    x, y = scenes.PLACES[place]
    return Blob(x=x, y=y, a=scenes.SIZES["large"], b=scenes.SIZES["large"], name=name)


def rows(pictures: Picture, cases: Sequence[Case], system: DiffUHaul) -> Iterator[Row]:
    """Scores of each picture: by the crops' colours, and by the exact parser."""
    old, new = system.way
    for picture, case in zip(pictures, cases, strict=True):
        scores = score_drag(case.picture(case.way[0]), picture[None], old, new, mean_colours, DILATION)
        seen = scenes.parse(picture)
        mine = [thing for thing in seen.things if (thing.colour, thing.shape) == case.dragged]
        there = any(np.hypot(thing.x - new.x, thing.y - new.y) < NEAR for thing in mine)
        left = any(np.hypot(thing.x - old.x, thing.y - old.y) < NEAR for thing in seen.things)
        same = next((t for t in seen.things if (t.colour, t.shape) == case.other), None)
        yield {
            "foreground": scores.foreground,
            "traces": scores.traces,
            "kept_psnr": min(scores.kept_psnr, BEST_PSNR),
            "dragged": float(there),
            "left": float(left),
            "all": float(there and not left and len(seen.things) == 2 and same is not None),
        }
