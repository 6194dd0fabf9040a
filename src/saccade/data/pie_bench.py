"""Read PIE-Bench (Ju et al. 2023, arXiv 2310.01506), or any folder laid out like it.

    mapping_file.json               key -> image_path, original_prompt, editing_prompt, blended_word, editing_type_id,
                                    mask
    annotation_images/<image_path>  the pictures, 512 x 512 there

A mask is a list of (start, length) runs over the picture's pixels in reading order: what an edit may change.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from saccade.data.rgb import as_picture, open_picture

SIDE = 512
TYPES = {
    0: "random",
    1: "change object",
    2: "add object",
    3: "delete object",
    4: "change attribute content",
    5: "change attribute pose",
    6: "change attribute colour",
    7: "change attribute material",
    8: "change background",
    9: "change style",
}
TEXTS = ("image_path", "original_prompt", "editing_prompt")
FIELDS = (*TEXTS, "editing_type_id", "mask")


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """One task. Prompts are without the brackets; `words` are those of the source that the edit is about.

    words   bracketed words of the source prompt where things are deleted, else the first of `blended_word`
    runs    the mask as it is stored
    """

    key: str
    path: Path
    name: str
    source: str
    target: str
    words: tuple[str, ...]
    type_id: int
    runs: tuple[int, ...]

    @property
    def type(self) -> str:
        """The kind of edit in words."""
        return TYPES.get(self.type_id, str(self.type_id))

    def mask(self, side: int = SIDE) -> Bool[np.ndarray, "n n"]:
        """What may change, the outermost pixels included, as the benchmark's own scores have it."""
        return resized(decode(self.runs), side)

    def picture(self) -> Float[np.ndarray, "1 h w 3"]:
        """The source picture in [0, 1]."""
        return load(self.path)


def read(folder: Path | str) -> tuple[Edit, ...]:
    """All tasks of a folder, in the order of its file. Raises ValueError naming the task and field that is amiss."""
    root = Path(folder)
    index = root / "mapping_file.json"
    if not index.is_file():
        raise ValueError(f"folder='{folder}' holds no mapping_file.json; give the folder PIE-Bench unpacks to")
    return tuple(_edit(key, entry, root / "annotation_images") for key, entry in _entries(index).items())


def decode(runs: Sequence[int], side: int = SIDE) -> Bool[np.ndarray, "n n"]:
    """The mask of (start, length) runs, its outermost pixels set: annotations are unsure there."""
    _check_runs(runs)
    flat = np.zeros(side * side, bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[start : start + length] = True
    mask = flat.reshape(side, side)
    mask[[0, -1]] = mask[:, [0, -1]] = True
    return mask


def encode(mask: Bool[np.ndarray, "n n"]) -> list[int]:
    """The runs of a mask, the other way."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.ravel().astype(np.int8), [0]))))
    return [int(n) for start, end in zip(edges[::2], edges[1::2], strict=True) for n in (start, end - start)]


def load(path: Path) -> Float[np.ndarray, "1 h w 3"]:
    """A picture file in [0, 1]; ValueError where there is none, or none that can be read."""
    return as_picture(open_picture(path, f"'{path}'"))


def resized(mask: Bool[np.ndarray, "n n"], side: int) -> Bool[np.ndarray, "m m"]:
    """The mask at another size, by the nearest pixel."""
    at = (np.arange(side) * 2 + 1) * len(mask) // (2 * side)
    return mask[at[:, None], at[None, :]]


def _entries(index: Path) -> dict[str, Any]:
    try:
        entries = json.loads(index.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # no UTF-8, or no JSON
        raise ValueError(f"'{index}' is no index in JSON: {error}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"'{index}' holds {type(entries).__name__}; its tasks must stand under their keys, as a dict")
    return entries


def _edit(key: str, entry: Any, pictures: Path) -> Edit:
    _check_entry(key, entry)
    original, type_id = entry["original_prompt"], int(entry["editing_type_id"])
    blended = (entry.get("blended_word") or "").split()
    return Edit(
        key=key,
        path=pictures / entry["image_path"],
        name=entry["image_path"],
        source=_plain(original),
        target=_plain(entry["editing_prompt"]),
        words=_bracketed(original) if type_id == 3 else tuple(blended[:1]),
        type_id=type_id,
        runs=tuple(entry["mask"]),
    )


def _check_entry(key: str, entry: Any) -> None:
    """Raise ValueError naming the task, the field and its value."""
    task = f"task '{key}' of mapping_file.json"
    if not isinstance(entry, dict):
        raise ValueError(f"{task} is {entry!r}; give a dict of {', '.join(FIELDS)}")
    if missing := [name for name in FIELDS if name not in entry]:
        raise ValueError(f"{task} has no {', '.join(missing)}")
    for name in (*TEXTS, *(["blended_word"] if entry.get("blended_word") is not None else [])):
        if not isinstance(entry[name], str):
            raise ValueError(f"{task} has {name}={entry[name]!r}; give a text")
    if not str(entry["editing_type_id"]).isdecimal():
        raise ValueError(f"{task} has editing_type_id={entry['editing_type_id']!r}; give a number, as 0 to 9")
    if not isinstance(entry["mask"], list):
        raise ValueError(f"{task} has mask={entry['mask']!r}; give a list of starts and lengths, [] for no pixel")
    try:
        _check_runs(entry["mask"])
    except ValueError as error:
        raise ValueError(f"{task}: {error}") from None


def _check_runs(runs: Sequence[int]) -> None:
    if odd := [run for run in runs if isinstance(run, bool) or not isinstance(run, int | np.integer)]:
        raise ValueError(f"mask holds {odd[0]!r}; give whole numbers, starts and lengths in turn")
    if len(runs) % 2 or any(run < 0 for run in runs):
        raise ValueError(f"mask of {len(runs)} numbers must be pairs of start and length, none negative")


def _plain(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")


def _bracketed(prompt: str) -> tuple[str, ...]:
    return tuple(part.partition("]")[0] for part in prompt.split("[")[1:])
