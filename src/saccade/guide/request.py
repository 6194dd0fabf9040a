"""What a guided picture is asked for, as plain values, checked once; and the record of one."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.core.checks import check_numbers, check_sizes, check_whole
from saccade.core.rows import Rows
from saccade.papers.headhunter import SoftPAG
from saccade.papers.headhunter.perturbations import Kind, Scope
from saccade.pipelines.records import differences, read_record, write_record

VERB = "guide"


@dataclass(frozen=True, kw_only=True)
class Request:
    """All arguments of `guide`, which explains them, but for the pipeline.

    w        every strength
    options  further arguments of the pipeline's call
    systems  as text, one each
    Raises ValueError for what does not fit together.
    """

    prompt: str
    heads: tuple[tuple[int, int], ...]
    layers: tuple[int, ...]
    kind: Kind
    u: float
    w: tuple[float, ...]
    tau: float
    scope: Scope
    seed: int
    steps: int | None
    height: int | None
    width: int | None
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: Rows | None = None
    systems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.heads and not self.layers:
            raise ValueError("heads=() and layers=() leave nothing to weaken; give (layer, head) pairs, or layers")
        if not self.w or len({*self.w}) < len(self.w):
            raise ValueError(f"w={self.w} must name one strength at least, and each once")
        for strength in self.w:
            check_numbers(w=strength)
        check_whole(0, seed=self.seed)
        check_sizes(steps=self.steps, height=self.height, width=self.width)
        if not isinstance(self.prompt, str):
            raise ValueError(f"prompt={self.prompt!r:.80} must be one text")
        _ = self.systems_by_strength

    @property
    def systems_by_strength(self) -> dict[float, SoftPAG]:
        """What attaches for each strength. Raises ValueError for options out of range."""
        given = {name: getattr(self, name) for name in ("heads", "layers", "kind", "u", "tau", "scope")}
        return {float(w): SoftPAG(**given, w=float(w)) for w in self.w}


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A guided picture as it was made.

    request  what was asked
    made_by  the pipeline's class and name, its scheduler, dtype, a fingerprint of its weights, the device, and versions
    digests  SHA-256 of the float32 values of the plain picture and of each strength's
    """

    request: Request
    made_by: Mapping[str, str]
    digests: tuple[str, ...]

    def differs(self, other: "Record") -> dict[str, tuple[str, str]]:
        """What of the model, the machine and the versions is another, here and there."""
        return differences(self.made_by, other.made_by)

    def save(self, path: str | Path) -> Path:
        """Write it to a file, folders included. Raises ValueError for an option that is no plain value."""
        for name, value in self.request.options.items():
            _check_plain(name, value)
        arrays = {"seeds": np.array([self.request.seed])}  # a file of safetensors is never without one
        given = {"made_by": self.made_by, "digests": self.digests}
        return write_record(path, VERB, request=asdict(self.request), arrays=arrays, **given)

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read it. Raises ValueError for a file that is no record, or one of a later format."""
        found = read_record(path, VERB)
        rows = found.request.pop("rows")
        made = None if rows is None else Rows(**{name: tuple(value) for name, value in rows.items()})
        return cls(request=Request(**found.request, rows=made), made_by=found.made_by, digests=found.digests)


def _check_plain(name: str, value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(f"options['{name}']={value!r:.80} is no plain value, which a record keeps alone") from None
