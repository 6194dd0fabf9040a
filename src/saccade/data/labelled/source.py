"""What every source of labelled pictures can do, and the one way all of ours do it: bytes decoded once."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from saccade.data.labelled.decode import Read, decoded
from saccade.data.pixels import to_tensor as as_pictures

Labelled = tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]
Conditioned = tuple[Float[Tensor, "n c h w"], Any]
MIXING = 0  # seed of the order of held-out pictures, since files are often sorted by class


class Source(Protocol):
    """Pictures (n c h w) in [-1, 1] with a label each, in [0, classes), or with rows of what else conditions them."""

    @property
    def classes(self) -> int:
        """How many labels there are."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each label."""
        ...

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        ...

    @property
    def channels(self) -> int:
        """Colour channels."""
        ...

    def batch(self, rng: np.random.Generator, n: int) -> Conditioned:
        """`n` pictures to train on, drawn with replacement; they depend on `rng` alone."""
        ...

    def held_out(self, n: int) -> Conditioned:
        """`n` fixed pictures that are never trained on, in a fixed order that mixes the labels."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """A `Source` of square pictures in memory, or mapped from disk. `flip`: mirror half of every batch.

    Raises ValueError for options out of range.
    """

    names: tuple[str, ...]
    train: UInt8[np.ndarray, "n s s c"]
    labels: Int64[np.ndarray, " n"]
    held: UInt8[np.ndarray, "m s s c"]
    held_labels: Int64[np.ndarray, " m"]
    flip: bool = False

    def __post_init__(self) -> None:
        for name, pictures, labels in (("train", self.train, self.labels), ("held", self.held, self.held_labels)):
            if not len(pictures) or len(pictures) != len(labels):
                raise ValueError(f"{name} has {len(pictures)} pictures and {len(labels)} labels; give one label each")
            check_labels(labels, self.names)

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return len(self.names)

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        return self.train.shape[1]

    @property
    def channels(self) -> int:
        """Colour channels."""
        return self.train.shape[3]

    def batch(self, rng: np.random.Generator, n: int) -> Labelled:
        """`n` pictures to train on, drawn with replacement; they depend on `rng` alone."""
        chosen = rng.integers(len(self.train), size=n)
        pictures = self.train[chosen]
        if self.flip:
            mirrored = rng.random(n) < 0.5
            pictures[mirrored] = pictures[mirrored, :, ::-1]
        return as_pictures(pictures), torch.from_numpy(self.labels[chosen])

    def held_out(self, n: int) -> Labelled:
        """`n` fixed pictures that are never trained on, in a fixed order that mixes the labels."""
        chosen = self.held_order(n)
        return as_pictures(self.held[chosen]), torch.from_numpy(self.held_labels[chosen])

    def held_order(self, n: int) -> Int64[np.ndarray, " n"]:
        """Where the first `n` held-out pictures lie in `held`.

        Raises ValueError for more pictures than are held out.
        """
        if not 0 < n <= len(self.held):
            raise ValueError(f"n={n} must be 1 to {len(self.held)}, the number of held-out pictures")
        return np.random.default_rng(MIXING).permutation(len(self.held))[:n]


def parted(
    read: Read,
    labels: Int64[np.ndarray, " n"],
    names: tuple[str, ...],
    *,
    side: int,
    held: float,
    flip: bool = False,
    file: Path | None = None,
) -> Pictures:
    """A source that keeps a fixed random share `held` of the pictures back, at least one; they come first in `file`.

    Raises ValueError for a share outside [0, 1].
    """
    check_labels(labels, names)
    if not 0 < held < 1:
        raise ValueError(f"held={held} must be between 0 and 1, the share of pictures that is never trained on")
    order = np.random.default_rng(MIXING).permutation(len(labels))
    pictures, mixed = decoded(len(order), lambda i: read(int(order[i])), side, file), labels[order]
    border = max(1, round(held * len(order)))
    return Pictures(
        names=names,
        train=pictures[border:],
        labels=mixed[border:],
        held=pictures[:border],
        held_labels=mixed[:border],
        flip=flip,
    )


def check_labels(labels: Int64[np.ndarray, " n"], names: tuple[str, ...]) -> None:
    """Raise ValueError, naming the first picture concerned, unless every label has a name."""
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        raise ValueError(
            f"label {labels[outside[0]]} of picture {outside[0]} is outside 0 to {len(names) - 1}; "
            f"there are {len(names)} names"
        )


def whole_numbers(column: Any, name: str) -> Int64[np.ndarray, " n"]:
    """One label a row. Raises ValueError naming the first row that is no whole number, and what it holds."""
    values = list(column)
    for i, value in enumerate(values):
        held = "lists" if _is_list(value) else np.asarray(value).dtype
        if isinstance(held, str) or held.kind not in "iub":
            raise ValueError(
                f"{name} holds {held}, not whole numbers: row {i} is {value!r}; name another column, or mend the row"
            )
    return np.array([int(value) for value in values], np.int64)


def _is_list(value: Any) -> bool:
    shape = getattr(value, "shape", None)
    return isinstance(value, Collection) and not isinstance(value, str | bytes) if shape is None else len(shape) > 0


def check_counts(**counts: int) -> None:
    """Raise ValueError for a named count below one."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
