"""What was done, in one file: the request with its pictures and masks, the model, and digests of the results."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from saccade.insert.request import Request
from saccade.pipelines.records import differences, read_record, write_record

VERB = "insert"
ARRAYS = ("subject", "subject_mask", "into", "mask")


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """An insertion as it was made; the subject's mask is in it, so that nothing has to be found again.

    request  what was asked
    made_by  the pipeline's class and name, its scheduler, dtype, a fingerprint of its weights, the device, and versions
    digests  SHA-256 of each picture's float32 values
    """

    request: Request
    made_by: Mapping[str, str]
    digests: tuple[str, ...]

    def differs(self, other: "Record") -> dict[str, tuple[str, str]]:
        """What of the model, the machine and the versions is another, here and there."""
        return differences(self.made_by, other.made_by)

    def save(self, path: str | Path) -> Path:
        """Write it to a file, folders included."""
        given = {f.name: getattr(self.request, f.name) for f in fields(Request)}
        arrays = {name: given[name] for name in ARRAYS if given[name] is not None}
        plain = {name: value for name, value in given.items() if name not in ARRAYS}
        return write_record(path, VERB, request=plain, arrays=arrays, made_by=self.made_by, digests=self.digests)

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read it. Raises ValueError for a file that is no record, or one of a later format."""
        found = read_record(path, VERB)
        arrays: dict[str, Any] = {name: found.arrays.get(name) for name in ARRAYS}
        return cls(request=Request(**found.request, **arrays), made_by=found.made_by, digests=found.digests)
