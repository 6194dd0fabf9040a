"""Insertions with the bundled model, a plain text-to-image one, and what an exact parser reads where they were asked.

A diptych is a square such as the model knows: the subject in the upper half on white, below it a scene of one other
thing, and beside that the place for the subject. Latents are blended to keep the rest, or not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, permutations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.data import scenes
from saccade.experiments import Row
from saccade.metrics.composition import similarity
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import pictures
from saccade.papers.in_context_brush.diptych import Diptych, make_diptych
from saccade.pipelines.latent_blending import LatentBlending

SIDE, TEXT = 128, 32  # pixels of the square, text tokens
HALF = SIDE // 2
GROUND = "white"
PLACE = slice(8, HALF - 8), slice(HALF, SIDE - 8)  # rows and columns of a half where the subject goes
PATCH = 4  # pixels
PASTED = 235 / 255  # what is lighter than this is the subject's ground
Kind = tuple[str, str]  # colour, shape


@dataclass(frozen=True, kw_only=True)
class Case:
    """A subject, the other thing of the target scene, and the colour the caption wants the subject to have, if any."""

    subject: Kind
    other: Kind
    colour: str | None = None

    @property
    def caption(self) -> str:
        """As the bundled model knows captions: what the lower half should show."""
        words = ("a large", self.colour, self.subject[1])
        left, right = " ".join(("a large", *self.other)), " ".join(word for word in words if word)
        return f"{left} at the bottom left and {right} at the bottom right on a {GROUND} background"

    @property
    def diptych(self) -> Diptych:
        """With the subject in the middle above, and the other thing on the left below."""
        above, below = _drawn(self.subject, 0.5), _drawn(self.other, 0.22)
        subject = np.where(above > PASTED, np.float32(1), above)
        mask = np.zeros((HALF, SIDE), dtype=np.float32)
        mask[PLACE] = 1
        return make_diptych(subject, below, mask)


@dataclass(frozen=True, kw_only=True, eq=False)
class Studio:
    """A pipeline, and the cases it draws, all at once, each from noise of its own."""

    pipe: Any
    cases: Sequence[Case]
    steps: int

    @cached_property
    def diptychs(self) -> list[Diptych]:
        return [case.diptych for case in self.cases]

    @cached_property
    def blending(self) -> LatentBlending:
        """Of all cases; its noise is where every arm starts."""
        made = [
            LatentBlending.of(self.pipe, one.picture, one.mask, torch.Generator().manual_seed(seed))
            for seed, one in enumerate(self.diptychs)
        ]
        fields: dict[str, Tensor] = {
            name: torch.cat([getattr(one, name) for one in made]) for name in ("clean", "noise", "free")
        }
        return LatentBlending(**fields)

    def draw(self, *systems: System, blend: bool) -> Picture:
        """The lower halves (b h w 3)."""
        with attach(self.pipe, *systems):
            drawn = self.pipe(
                [case.caption for case in self.cases], height=SIDE, width=SIDE, num_inference_steps=self.steps,
                max_sequence_length=TEXT, latents=self.blending.noise, output_type="np",
                callback_on_step_end=self.blending if blend else None,
            )  # fmt: skip
        return np.concatenate(pictures(drawn))[:, HALF:]

    def rows(self, drawn: Picture) -> Iterator[Row]:
        """A row for each case."""
        for number, (picture, case) in enumerate(zip(drawn, self.cases, strict=True)):
            yield {"case": number, **scored(picture[None], case)}


def cases(count: int) -> list[Case]:
    """Combinations spread over all there are; every second caption names a colour, which is not the subject's."""
    kinds = list(product(scenes.COLOURS, scenes.SHAPES))
    pairs = [(a, b) for a, b in permutations(kinds, 2) if a[0] != b[0] and a[1] != b[1]]
    chosen = islice(pairs[:: max(len(pairs) // count, 1)], count)
    found = [Case(subject=a, other=b) for a, b in chosen]
    return [replace(case, colour=_another(case)) if number % 2 else case for number, case in enumerate(found)]


def scored(picture: Picture, case: Case) -> Row:
    """What a lower half shows.

    similarity  100 x cosine of what is inside the mask with the subject, both as mean ink, 1 - RGB; where the caption
                names no colour
    caption     whether a thing of the caption's colour and the subject's shape stands there; where it names one
    shape       whether one of the subject's shape does
    background  mean difference from the target outside the mask, in [0, 1]
    """
    shown = case.diptych
    mask, subject = shown.mask[HALF:] > 0, shown.picture[:, :HALF]
    inside = [(thing.colour, thing.shape) for thing in _things(picture) if mask[_pixel(thing.y), _pixel(thing.x, 0)]]
    alike = similarity(picture, mask, subject, (subject[0] < 1).any(-1), _ink)
    return {
        "similarity": None if case.colour else alike,
        "caption": float((case.colour, case.subject[1]) in inside) if case.colour else None,
        "shape": float(case.subject[1] in [shape for _, shape in inside]),
        "background": float(np.abs(picture - shown.lower(shown.picture))[0][~mask].mean()),
    }


def _things(half: Picture) -> tuple[scenes.Seen, ...]:
    """What the parser, which reads squares, sees below a half of the same ground."""
    border = np.concatenate((half[0, 0], half[0, -1], half[0, :, 0], half[0, :, -1]))
    ground = np.broadcast_to(np.median(border, axis=0), half.shape[1:])
    return scenes.parse(np.concatenate((ground, half[0])).clip(0, 1)).things


def _pixel(place: float, first: int = HALF) -> int:
    """Of a place in the square, counted from `first`."""
    return min(max(int(place * SIDE) - first, 0), (HALF if first else SIDE) - 1)


def _drawn(kind: Kind, x: float) -> Picture:
    """A half with one large thing."""
    thing = scenes.Thing(colour=kind[0], shape=kind[1], size="large", x=x, y=0.25)
    return scenes.render(scenes.Scene(things=(thing,), background=GROUND), SIDE)[None, :HALF].astype(np.float32) / 255


def _another(case: Case) -> str:
    """A colour that neither thing has."""
    colours = list(scenes.COLOURS)
    free = [colour for colour in colours if colour not in (case.subject[0], case.other[0])]
    return free[colours.index(case.subject[0]) % len(free)]


def _ink(picture: Picture) -> np.ndarray:
    """Mean of 1 - RGB of each patch."""
    rows, columns = picture.shape[1] // PATCH, picture.shape[2] // PATCH
    return (1 - picture[0]).reshape(rows, PATCH, columns, PATCH, 3).mean(axis=(1, 3))
