"""What is asked for: boxes with captions, and the same as tensors, padded to a number of slots.

>>> asked = captioned(["a red circle"], [(0.1, 0.2, 0.5, 0.6)])
>>> asked[0].box
(0.1, 0.2, 0.5, 0.6)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

SLOTS = 10  # boxes the released models are trained for
DIGITS = 3  # to which corners are rounded
Corners = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class CaptionedBox:
    """A description and its place: x0, y0, x1, y1 as shares of the picture, x to the right and y down.

    Raises ValueError for a box outside [0, 1] or without area, and for an empty caption.
    """

    caption: str
    box: Corners

    def __post_init__(self) -> None:
        if fault := box_fault(self.box):
            raise ValueError(f"box={self.box} of '{self.caption}' {fault}")
        if not self.caption.strip():
            raise ValueError(f"caption='{self.caption}' of box={self.box} is empty; say what is there")


def captioned(captions: Sequence[str], boxes: Sequence[Sequence[float]], *, most: int = SLOTS) -> list[CaptionedBox]:
    """Captions with their boxes.

    Raises ValueError, which names the entry, for a box that is none, for more than `most`, or other numbers of both.
    """
    if len(captions) != len(boxes):
        raise ValueError(f"captions={len(captions)} and boxes={len(boxes)} must be as many; give one for each")
    check_count(len(boxes), most)
    found: list[CaptionedBox] = []
    for number, (caption, box) in enumerate(zip(captions, boxes, strict=True)):
        try:
            x0, y0, x1, y1 = map(float, box)
            found.append(CaptionedBox(caption=caption, box=(x0, y0, x1, y1)))
        except ValueError as error:
            raise ValueError(f"boxes[{number}]={tuple(box)}: {error}") from None
    return found


def check_count(count: int, most: int) -> None:
    """Raise ValueError for more boxes than there are slots."""
    if count > most:
        raise ValueError(f"boxes={count} are more than slots={most}; leave out {count - most}, or give more slots")


def box_fault(box: Sequence[float]) -> str:
    """What is wrong with the corners of a box, and the mend; empty where nothing is."""
    x0, y0, x1, y1 = box
    if max(box) > 1:
        return "reaches beyond 1, as pixels do; divide by the width and height of the picture"
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        return "must be 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1"
    return ""


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes, x0, y0, x1, y1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / total if total > 0 else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class LayoutBatch:
    """Boxes of several pictures as the adapter takes them, unused slots padded.

    boxes  x0, y0, x1, y1 in [0, 1]
    mask   which slots are used
    text   of each caption: a vector (b n c), or the vectors of its words (b n w c)
    Raises ValueError, which names the row and slot, for a used box that is none, and for shapes that do not fit.
    """

    boxes: Float[Tensor, "b n 4"]
    mask: Bool[Tensor, "b n"]
    text: Float[Tensor, "b n *w c"]

    def __post_init__(self) -> None:
        if self.text.shape[:2] != self.mask.shape or self.boxes.shape[:2] != self.mask.shape:
            shapes = f"{tuple(self.boxes.shape)}, {tuple(self.mask.shape)} and {tuple(self.text.shape)}"
            raise ValueError(f"boxes, mask and text are {shapes}; give one of each for every slot")
        for row, slot in self.mask.nonzero().tolist():
            box = self.boxes[row, slot].tolist()
            if fault := box_fault(box):
                raise ValueError(f"boxes[{row}, {slot}]={tuple(round(x, 4) for x in box)} {fault}")

    @classmethod
    def of(cls, boxes: Sequence[Sequence[CaptionedBox]], texts: Sequence[Tensor], *, slots: int = SLOTS) -> Self:
        """Pad the boxes of each picture, and their texts (k c) or (k w c), to `slots`; corners are rounded.

        Raises ValueError for more boxes than slots.
        """
        rows = [
            ([[round(x, DIGITS) for x in each.box] for each in own], text)
            for own, text in zip(boxes, texts, strict=True)
        ]
        for own, _ in rows:
            check_count(len(own), slots)
        like = texts[0]
        return cls(
            boxes=torch.stack([_padded(torch.tensor(own).reshape(-1, 4), slots) for own, _ in rows]).to(like.device),
            mask=torch.tensor([[i < len(own) for i in range(slots)] for own, _ in rows], device=like.device),
            text=torch.stack([_padded(text, slots) for _, text in rows]),
        )

    def null(self) -> Self:
        """The same with no slot used: what stands for no layout under guidance."""
        return replace(self, mask=torch.zeros_like(self.mask))

    def chosen(self, rows: Sequence[int | None]) -> Self:
        """These rows in this order; None for the first row with no slot used."""
        index = torch.tensor([row or 0 for row in rows], device=self.mask.device)
        used = torch.tensor([row is not None for row in rows], device=self.mask.device)
        return replace(self, boxes=self.boxes[index], mask=self.mask[index] & used[:, None], text=self.text[index])

    def sampled(self, slots: int, rng: np.random.Generator) -> Self:
        """The same with at most so many slots; of more boxes than that a random subset."""
        if self.mask.shape[1] <= slots:
            return self
        keys = torch.from_numpy(rng.random(tuple(self.mask.shape))).to(self.mask.device)
        kept = (keys + ~self.mask).argsort(1)[:, :slots]  # used ones first
        rows = torch.arange(self.rows, device=self.mask.device)[:, None]
        return replace(self, boxes=self.boxes[rows, kept], mask=self.mask[rows, kept], text=self.text[rows, kept])

    def to(self, *args: Any) -> Self:
        """On another device; a type is taken by the text and the boxes alone."""
        return replace(
            self, boxes=self.boxes.to(*args), text=self.text.to(*args), mask=self.mask.to(*args).bool()
        )  # fmt: skip

    @property
    def rows(self) -> int:
        """Number of pictures."""
        return len(self.mask)


def _padded(x: Tensor, slots: int) -> Tensor:
    return torch.cat((x, x.new_zeros(slots - len(x), *x.shape[1:])))
