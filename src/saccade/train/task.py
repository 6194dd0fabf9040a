"""What the loop asks of whatever it trains."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from torch import nn

Batch = Any


class Task(Protocol):
    """What is trained, and on what.

    A task whose batches are to be cut, and have entries that are not one a row, names those in an attribute `shared`.
    One with options names in `settings`, a mapping, what decides its result: a run of others is not gone on with.
    One with a method `measures() -> dict[str, float]` is asked for figures of its own every `measure_every` steps.
    """

    @property
    def module(self) -> nn.Module:
        """The trained module; `module(batch)` returns named losses, of which `loss` is minimised."""
        ...

    def batch(self, rng: np.random.Generator) -> Batch:
        """A fresh batch, a nest of tensors, that depends on `rng` alone."""
        ...

    def uses_muon(self, name: str) -> bool:
        """Whether the matrix of that name inside `module` is one for Muon."""
        ...

    def sheet(self) -> UInt8[np.ndarray, "h w 3"] | None:
        """A picture of what `module` can do now, or None."""
        ...
