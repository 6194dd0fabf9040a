"""Any data set of rows, such as one of the library `datasets`: an indexable thing of dictionaries."""

from collections.abc import Sized
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64
from PIL import Image

from saccade.data.labelled.decode import Read, decoded
from saccade.data.labelled.source import Pictures, parted, whole_numbers
from saccade.data.rgb import as_rgb


class Rows(Sized, Protocol):
    """`rows[i]` is a dictionary with a picture and a label (int).

    A picture is one of PIL, or an array of bytes: grey (h w) or (h w 1), with alpha (h w 2) or (h w 4), RGB (h w 3).
    """

    def __getitem__(self, i: int, /) -> Any:
        """Row `i`."""
        ...


def from_dataset(
    dataset: Rows,
    image: str = "image",
    label: str = "label",
    *,
    side: int,
    names: tuple[str, ...] | None = None,
    held: float | Rows = 0.1,
    flip: bool = False,
) -> Pictures:
    """Decode every row into memory.

    `names`: of the labels; those of `dataset.features[label]` unless given, else the numbers up to the largest.
    `held`: rows never trained on: another data set, or the share of this one to keep back.
    Raises ValueError for a missing column, an empty data set, a picture that is none, or a label without a name.
    """
    labels = _labels(dataset, label)
    known = names or _names(dataset, label) or tuple(str(i) for i in range(int(labels.max()) + 1))
    if isinstance(held, (int, float)):
        return parted(_reader(dataset, image), labels, known, side=side, held=held, flip=flip)
    return Pictures(
        names=known,
        train=decoded(len(dataset), _reader(dataset, image), side),
        labels=labels,
        held=decoded(len(held), _reader(held, image), side),
        held_labels=_labels(held, label),
        flip=flip,
    )


def _reader(rows: Rows, column: str) -> Read:
    return lambda i: _opened(rows[i], column, i)


def _opened(row: dict[str, Any], column: str, i: int) -> Image.Image:
    name, value = f"image='{column}' of row {i}", row.get(column)
    if isinstance(value, Image.Image):
        return as_rgb(value, name)
    if not hasattr(value, "__array__"):
        raise ValueError(f"{name} is no picture but {type(value).__name__}; name another column")
    pixels = np.asarray(value)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"{name} is no picture but {pixels.dtype} {pixels.shape}; give bytes (h w) or (h w c)")
    if not pixels.size or pixels.ndim == 3 and pixels.shape[2] > 4:
        raise ValueError(f"{name} has shape {pixels.shape}; give (h w), or (h w c) of 1 to 4 channels, none empty")
    return as_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels), name)


def _labels(rows: Rows, column: str) -> Int64[np.ndarray, " n"]:
    if not len(rows):
        raise ValueError("dataset has no rows; give at least one for each class")
    if column not in rows[0]:
        raise ValueError(f"label='{column}' is no column; choose one of {', '.join(rows[0])}")
    try:
        whole = rows[column]  # type: ignore[index]  # a column at once, where the data set can
    except (KeyError, TypeError, IndexError):
        whole = [rows[i][column] for i in range(len(rows))]
    return whole_numbers(whole, f"label='{column}'")


def _names(rows: Rows, column: str) -> tuple[str, ...] | None:
    found = getattr((getattr(rows, "features", None) or {}).get(column), "names", None)
    return None if found is None else tuple(found)
