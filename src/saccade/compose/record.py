"""What was done, in one file: the request with its pictures and masks, the model, and digests of the results."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from saccade.compose.request import Request
from saccade.pipelines.records import differences, read_record, write_record

VERB = "compose"
ARRAYS = ("masks", "references")


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A composition as it was made.

    request  what was asked
    made_by  the pipeline's class and name, its scheduler, dtype, a fingerprint of its weights, the device, and versions
    regions  image tokens of each entity (r h w)
    digests  SHA-256 of each picture's float32 values
    """

    request: Request
    made_by: Mapping[str, str]
    regions: Bool[np.ndarray, "r h w"]
    digests: tuple[str, ...]

    def differs(self, other: "Record") -> dict[str, tuple[str, str]]:
        """What of the model, the machine and the versions is another, here and there."""
        return differences(self.made_by, other.made_by)

    def save(self, path: str | Path) -> Path:
        """Write it to a file, folders included."""
        given = {f.name: getattr(self.request, f.name) for f in fields(Request)}
        arrays = {f"{name}.{i}": a for name in ARRAYS for i, a in enumerate(given[name]) if a is not None}
        plain = {name: value for name, value in given.items() if name not in ARRAYS}
        arrays["regions"] = self.regions
        return write_record(path, VERB, request=plain, arrays=arrays, made_by=self.made_by, digests=self.digests)

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read it. Raises ValueError for a file that is no record, or one of a later format."""
        found = read_record(path, VERB)
        numbers = range(len(found.request["texts"]))
        arrays: dict[str, Any] = {name: tuple(found.arrays.get(f"{name}.{i}") for i in numbers) for name in ARRAYS}
        return cls(
            request=Request(**found.request, **arrays),
            made_by=found.made_by, regions=found.arrays["regions"], digests=found.digests,
        )  # fmt: skip
