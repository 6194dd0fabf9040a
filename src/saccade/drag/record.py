"""What was done, in one file: the request with its picture and layouts, the model, and digests of the results."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from saccade.drag.request import Request
from saccade.papers.diffuhaul.blobs import Blob, Blobs
from saccade.pipelines.records import differences, read_record, write_record

VERB = "drag"
LAYOUTS = ("source", "target")


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A drag as it was made; the objects' places are in it, so that nothing has to be found again.

    request  what was asked
    made_by  the pipeline's class and name, its scheduler, dtype, a fingerprint of its weights, the device, and versions
    digests  SHA-256 of the float32 values of the source and of the result
    """

    request: Request
    made_by: Mapping[str, str]
    digests: tuple[str, ...]

    def differs(self, other: "Record") -> dict[str, tuple[str, str]]:
        """What of the model, the machine and the versions is another, here and there."""
        return differences(self.made_by, other.made_by)

    def save(self, path: str | Path) -> Path:
        """Write it to a file, folders included."""
        plain = {f.name: getattr(self.request, f.name) for f in fields(Request) if f.name != "picture"}
        plain |= {name: [astuple(blob) for blob in plain[name]] for name in LAYOUTS}
        arrays = {} if self.request.picture is None else {"picture": self.request.picture}
        return write_record(path, VERB, request=plain, arrays=arrays, made_by=self.made_by, digests=self.digests)

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read it. Raises ValueError for a file that is no record, or one of a later format."""
        found = read_record(path, VERB)
        given: dict[str, Any] = {**found.request, "picture": found.arrays.get("picture")}
        given |= {name: _blobs(given[name]) for name in LAYOUTS}
        return cls(request=Request(**given), made_by=found.made_by, digests=found.digests)


def _blobs(rows: tuple[tuple[Any, ...], ...]) -> Blobs:
    names = [f.name for f in fields(Blob)]
    return tuple(Blob(**dict(zip(names, row, strict=True))) for row in rows)
