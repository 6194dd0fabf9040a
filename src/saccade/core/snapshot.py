"""Whether a sequence of numbers still is what was read, without a wait for the device where that can be known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a tensor or a list held when it was read.

    A tensor on a device is known by its version, which counts changes in place; one without a version, and all else, by
    its values.
    """

    version: int | None
    values: Any

    @classmethod
    def of(cls, source: Tensor | Sequence[float] | None) -> "Snapshot":
        """Remember `source` as it is now."""
        version = _version(source)
        return cls(version, _values(source) if version is None else None)

    def holds(self, source: Tensor | Sequence[float] | None) -> bool:
        """Whether `source`, the very object that was read, is unchanged."""
        if self.version is not None:
            return _version(source) == self.version
        now = _values(source)
        return torch.equal(now, self.values) if isinstance(now, Tensor) else now == self.values


def _version(source: object) -> int | None:
    if not isinstance(source, Tensor) or source.device.type == "cpu" or source.is_inference():
        return None
    return source._version


def _values(source: Any) -> Any:
    """A copy; numbers that are none are equal to themselves."""
    if isinstance(source, Tensor):
        return source.detach().nan_to_num()  # a copy, always
    return [] if source is None else list(source)
