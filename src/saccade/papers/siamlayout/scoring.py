"""LayoutSAM-Eval: crops of boxes put before a judge, who says what is there and whether it is as described.

spatial: is it there?     if so, colour, texture, shape: as described?     each score = yes / boxes, over all pictures
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saccade.papers.siamlayout.boxes import CaptionedBox, Corners

Picture = Float[np.ndarray, "h w 3"]
Judge = Callable[[Picture, str], bool]  # a crop (h w 3) and a question; True for yes
ATTRIBUTES = ("colour", "texture", "shape")
THERE = 'Does this picture show "{subject}"? Answer yes or no.'
AS_DESCRIBED = (
    'The subject of this picture is described as "{detail}". Is its {attribute} as described? Answer yes or no; if the '
    "description says nothing of its {attribute}, answer yes."
)


@dataclass(frozen=True, kw_only=True)
class LayoutScores:
    """Shares in [0, 1] of all boxes; attributes count where the subject is there, so none exceeds `spatial`."""

    spatial: float
    colour: float
    texture: float
    shape: float
    boxes: int


def score_layout(
    pictures: Sequence[Picture],
    layouts: Sequence[Sequence[CaptionedBox]],
    judge: Judge,
    *,
    details: Sequence[Sequence[str]] | None = None,
) -> LayoutScores:
    """Means over the boxes of all pictures, each box counting the same.

    judge    a vision-language model, say; `says_yes` reads its answers as the benchmark does
    details  detailed descriptions for colour, texture and shape; the captions where there are none
    Raises ValueError for other numbers of pictures and layouts, and where there is no box.
    """
    described = details or [[each.caption for each in boxes] for boxes in layouts]
    if not len(pictures) == len(layouts) == len(described):
        counts = f"{len(pictures)} pictures, {len(layouts)} layouts and {len(described)} details"
        raise ValueError(f"{counts} must be as many; give a layout for each picture")
    rows = [
        _judged(crop(picture, each.box), each.caption, detail, judge)
        for picture, boxes, texts in zip(pictures, layouts, described, strict=True)
        for each, detail in zip(boxes, texts, strict=True)
    ]
    if not rows:
        raise ValueError("layouts hold no box, so there is nothing to score; give at least one")
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return LayoutScores(**dict(zip(("spatial", *ATTRIBUTES), means, strict=True)), boxes=len(rows))


def crop(picture: Picture, box: Corners) -> Float[np.ndarray, "y x 3"]:
    """What a picture (h w 3) shows in a box, whose corners are rounded down to pixels.

    Raises ValueError for a box that covers no whole pixel.
    """
    height, width = picture.shape[:2]
    x0, x1 = (int(x * width) for x in box[::2])
    y0, y1 = (int(y * height) for y in box[1::2])
    if x0 == x1 or y0 == y1:
        raise ValueError(f"box={box} covers no pixel of a picture of {height} x {width}; leave it out")
    return picture[y0:y1, x0:x1]


def says_yes(answer: str) -> bool:
    """How the benchmark reads a model's answer."""
    return "Yes" in answer or "yes" in answer


def _judged(shown: Float[np.ndarray, "y x 3"], subject: str, detail: str, judge: Judge) -> tuple[bool, ...]:
    if not judge(shown, THERE.format(subject=subject)):
        return (False,) * (1 + len(ATTRIBUTES))
    asked = (AS_DESCRIBED.format(detail=detail, attribute=attribute) for attribute in ATTRIBUTES)
    return True, *(bool(judge(shown, question)) for question in asked)
