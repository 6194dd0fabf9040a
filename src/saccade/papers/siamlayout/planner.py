"""Layouts written, completed or improved by any text model: the prompt, the answer, its faults and their repair.

>>> answer = '[{"caption": "a red circle", "box": [0.1, 0.1, 0.4, 0.4]}]'
>>> plan_layout(lambda prompt: answer, "a red circle on a gray background")
[CaptionedBox(caption='a red circle', box=(0.1, 0.1, 0.4, 0.4))]
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from saccade.core.checks import check_whole, check_word
from saccade.papers.siamlayout.boxes import DIGITS, SLOTS, CaptionedBox, Corners, box_fault
from saccade.papers.siamlayout.proposals import SMALLEST, Proposed, parse_layout, repair

Task = Literal["generate", "complete", "optimise"]
TextModel = Callable[[str], str]
RULES = (
    'Answer with a JSON list and nothing else. Each entry is {{"caption": text, "box": [x0, y0, x1, y1]}}: what is '
    "there, described in a phrase, and its place as shares of the picture between 0 and 1, x from left to right and y "
    "from top to bottom, x0 < x1 and y0 < y1. At most {most} entries."
)
ASKED: dict[Task, str] = {
    "generate": "Write a layout for a picture of: {caption}",
    "complete": "Complete this layout for a picture of: {caption}\nKeep every entry as it is and add what is missing. "
    "An entry with a point gives the centre alone: choose its box.\n{given}",
    "optimise": "Improve this layout for a picture of: {caption}\nMove and resize entries so that it looks natural "
    "and keeps to the description.\n{given}",
}


@dataclass(frozen=True, kw_only=True)
class Hint:
    """A part of a layout that is known: a caption with its box, or with its centre alone.

    Raises ValueError for both or neither, and for values outside [0, 1].
    """

    caption: str
    box: Corners | None = None
    point: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if (self.box is None) == (self.point is None):
            raise ValueError(f"box={self.box} and point={self.point} of '{self.caption}': give one of them")
        if self.box is not None and (fault := box_fault(self.box)):
            raise ValueError(f"box={self.box} of '{self.caption}' {fault}")
        if self.point is not None and not all(0 <= x <= 1 for x in self.point):
            raise ValueError(f"point={self.point} of '{self.caption}' must lie in [0, 1]")

    @classmethod
    def of_mask(cls, caption: str, mask: Any) -> Self:
        """From a mask or scribble (h w), not 0 where something is: the box around it.

        Raises ValueError for one that is empty.
        """
        drawn = np.asarray(mask) != 0
        if drawn.ndim != 2 or not drawn.any():
            raise ValueError(f"mask of '{caption}', {drawn.shape}, must be (h w) and not empty")
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        (height, width), ends = drawn.shape, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        x0, y0, x1, y1 = (round(float(end) / side, DIGITS) for end, side in zip(ends, (width, height) * 2, strict=True))
        return cls(caption=caption, box=(x0, y0, x1, y1))


def plan_layout(
    model: TextModel,
    caption: str,
    *,
    task: Task = "generate",
    hints: Sequence[Hint] = (),
    tries: int = 2,
    most: int = SLOTS,
    smallest: float = SMALLEST,
) -> list[CaptionedBox]:
    """Ask a text model for a layout, again with what was wrong where it is no layout; then mend its boxes.

    model   text to text
    hints   what is known; "complete" keeps their boxes whatever the model says
    tries   answers that are asked for at most
    Raises ValueError for options out of range, hints that a task needs or cannot have, and where no answer is a layout.
    """
    check_word(get_args(Task), task=task)
    check_whole(1, tries=tries, most=most)
    if (task == "generate") == bool(hints):
        wanted = "takes no hints" if task == "generate" else "needs hints, what there is of the layout"
        raise ValueError(f"hints={list(hints)}: task='{task}' {wanted}")
    prompt, fault = layout_prompt(task, caption, hints, most=most), ""
    for _ in range(tries):
        answer = model(prompt + (f"\nYour last answer could not be used: {fault}" if fault else ""))
        try:
            proposed = parse_layout(answer)
        except ValueError as error:
            fault = str(error)
            continue
        kept = [CaptionedBox(caption=h.caption, box=h.box) for h in hints if h.box and task == "complete"]
        if found := repair([*map(_proposed, kept), *proposed], most=most, smallest=smallest, sure=len(kept)):
            return found
        fault = "no entry has a usable box"
    raise ValueError(f"model gave no layout in tries={tries}: {fault}; give more tries, or another model")


def layout_prompt(task: Task, caption: str, hints: Sequence[Hint] = (), *, most: int = SLOTS) -> str:
    """What a text model is asked."""
    given = json.dumps([_entry(hint) for hint in hints])
    return ASKED[task].format(caption=caption, given=given) + "\n" + RULES.format(most=most)


def serialise(boxes: Sequence[CaptionedBox]) -> str:
    """A layout as text that `parse_layout` reads."""
    return json.dumps([{"caption": each.caption, "box": [round(x, DIGITS) for x in each.box]} for each in boxes])


def _entry(hint: Hint) -> dict[str, Any]:
    place = {"point": hint.point} if hint.box is None else {"box": hint.box}
    return {"caption": hint.caption, **place}


def _proposed(box: CaptionedBox) -> Proposed:
    return Proposed(caption=box.caption, box=box.box)
