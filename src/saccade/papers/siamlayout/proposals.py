"""Layouts as a text model gives them: read from its answer, checked, and mended.

[{"caption": "a red circle", "box": [0.1, 0.1, 0.4, 0.4]}]
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.papers.siamlayout.boxes import SLOTS, CaptionedBox, Corners, box_fault, overlap

SMALLEST = 0.001  # area of a box, as a share of the picture
ALIKE = 0.9  # overlap from which two boxes are one


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """An entry of an answer, right or wrong."""

    caption: str
    box: Corners


def parse_layout(text: str) -> list[Proposed]:
    """The entries of an answer, whatever stands around its list.

    Raises ValueError where there is no list, or an entry has no caption or not four numbers.
    """
    return [_read(entry, number) for number, entry in enumerate(_list_in(text))]


def layout_faults(
    proposed: Sequence[Proposed | CaptionedBox], *, most: int = SLOTS, smallest: float = SMALLEST
) -> list[str]:
    """What is wrong with a layout, by entry; empty for one that can be used as it is."""
    found = [f"{len(proposed)} entries are more than {most}"] if len(proposed) > most else []
    for number, each in enumerate(proposed):
        fault = box_fault(each.box) or ("" if _area(each.box) >= smallest else f"has an area below {smallest}")
        if fault:
            found.append(f"entry {number}, '{each.caption}', box={each.box} {fault}")
    for number, each in enumerate(proposed):
        if (twin := _twin(each.box, [other.box for other in proposed[:number]])) is not None:
            found.append(f"entry {number}, '{each.caption}', has the box of entry {twin}")
    return found


def repair(
    proposed: Sequence[Proposed | CaptionedBox], *, most: int = SLOTS, smallest: float = SMALLEST, sure: int = 0
) -> list[CaptionedBox]:
    """A layout without faults: corners in order and clipped, small boxes and those of an earlier entry left out.

    sure  entries at the beginning that are kept as they are
    """
    found: list[CaptionedBox] = []
    for number, each in enumerate(proposed):
        box = each.box if number < sure else _clipped(each.box)
        new = _area(box) >= smallest and _twin(box, [other.box for other in found]) is None
        if number < sure or (new and each.caption.strip()):
            found.append(CaptionedBox(caption=each.caption, box=box))
    return found[:most]


def _list_in(text: str) -> list[Any]:
    """The first JSON list of objects in a text."""
    decoder = json.JSONDecoder()
    for start in (found.start() for found in re.finditer(r"\[", text)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            continue
        if isinstance(value, list) and all(isinstance(each, dict) for each in value):
            return value
    raise ValueError(f"answer={text[:80]!r} holds no JSON list of entries")


def _read(entry: dict[str, Any], number: int) -> Proposed:
    caption, box = entry.get("caption"), entry.get("box")
    if not isinstance(caption, str):
        raise ValueError(f"entry {number}, {entry}, has no caption; give it as text")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(x) for x in box):
        raise ValueError(f"entry {number}, '{caption}', has box={box}; give four numbers, x0, y0, x1, y1")
    x0, y0, x1, y1 = map(float, box)
    return Proposed(caption=caption, box=(x0, y0, x1, y1))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _clipped(box: Corners) -> Corners:
    x0, y0, x1, y1 = (min(max(x, 0.0), 1.0) for x in box)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _area(box: Corners) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _twin(box: Corners, others: Sequence[Corners]) -> int | None:
    """The first of the others that is all but the same."""
    return next((i for i, other in enumerate(others) if overlap(box, other) > ALIKE), None)
