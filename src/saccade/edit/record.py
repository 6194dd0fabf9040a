"""What was done, in one file: the rounds with their pictures and masks, the model, and digests of the results."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saccade.analysis.layers import LayerSets
from saccade.core.site import Where
from saccade.edit.request import Request
from saccade.papers.freeflux import AddObject, KeepRegion, Reshape
from saccade.pipelines.records import differences, frozen, read_record, write_record

VERB = "edit"
VALUES: tuple[type, ...] = (AddObject, KeepRegion, LayerSets, Request, Reshape, Where)  # what a request may hold


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """An edit as it was made, with all the rounds it went on from.

    rounds   what was asked, round by round; what a segmenter or a probe said is in it, so that nobody is asked again
    made_by  the pipeline's class and name, its scheduler, dtype, a fingerprint of its weights, the device, and versions
    digests  SHA-256 of the float32 values of each round's source and result
    """

    rounds: tuple[Request, ...]
    made_by: Mapping[str, str]
    digests: tuple[str, ...]

    def differs(self, other: "Record") -> dict[str, tuple[str, str]]:
        """What of the model, the machine and the versions is another, here and there."""
        return differences(self.made_by, other.made_by)

    def save(self, path: str | Path) -> Path:
        """Write it to a file, folders included."""
        arrays = {"rounds": np.array(len(self.rounds))}  # a file of safetensors is never without one
        rounds = [_written(one, str(number), arrays) for number, one in enumerate(self.rounds)]
        given = {"arrays": arrays, "made_by": self.made_by, "digests": self.digests}
        return write_record(path, VERB, request={"rounds": rounds}, **given)

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read it. Raises ValueError for a file that is no record, or one of a later format."""
        found = read_record(path, VERB)
        rounds = tuple(_read(one, found.arrays) for one in found.request["rounds"])
        return cls(rounds=rounds, made_by=found.made_by, digests=found.digests)


def _written(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """As JSON has it; arrays and tensors are put beside it."""
    if is_dataclass(value):
        own = {f.name: _written(getattr(value, f.name), f"{name}.{f.name}", arrays) for f in fields(value)}
        return {"is": type(value).__name__, "of": own}
    if isinstance(value, np.ndarray | torch.Tensor):
        arrays[name] = np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value)
        return {"is": "tensor" if isinstance(value, torch.Tensor) else "array", "of": name}
    return value


def _read(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What `_written` wrote."""
    match value:
        case {"is": "array", "of": name}:
            return arrays[name]
        case {"is": "tensor", "of": name}:
            return torch.from_numpy(arrays[name])
        case {"is": name, "of": own}:
            made = {cls.__name__: cls for cls in VALUES}[name]
            return made(**{field: _read(each, arrays) for field, each in own.items()})
    return frozen(value)
