"""What was done, in one file: the request with its pictures and masks, the model, versions, and digests of the results.

A file of safetensors: arrays as tensors, all else as JSON beside them. Nothing in it is ever run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from saccade.compose.request import Request
from saccade.core.errors import SaccadeError
from saccade.metrics.machine import device_name, versions
from saccade.models.fingerprint import fingerprint

FORMAT, KEY = 1, "saccade.compose"
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
        names = {*self.made_by, *other.made_by}
        pairs = {name: (self.made_by.get(name, "-"), other.made_by.get(name, "-")) for name in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def save(self, path: str | Path) -> Path:
        """Write it to a file, folders included."""
        from safetensors.numpy import save_file

        given = {f.name: getattr(self.request, f.name) for f in fields(Request)}
        arrays = {f"{name}.{i}": a for name in ARRAYS for i, a in enumerate(given[name]) if a is not None}
        plain = {name: value for name, value in given.items() if name not in ARRAYS}
        text = {"format": FORMAT, "request": plain, "made_by": dict(self.made_by), "digests": self.digests}
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"regions": self.regions, **arrays}, file, metadata={KEY: json.dumps(text)})
        return file

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read it. Raises ValueError for a file that is no record, or one of a later format."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "np") as file:
                text = json.loads((file.metadata() or {})[KEY])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, KeyError, SafetensorError) as error:
            raise ValueError(f"record='{path}' is no record of compose: {error}") from None
        if text["format"] != FORMAT:
            raise ValueError(f"record='{path}' has format {text['format']}, this saccade reads {FORMAT}; update it")
        numbers = range(len(text["request"]["texts"]))
        given: dict[str, Any] = {name: frozen(value) for name, value in text["request"].items()}
        given |= {name: tuple(arrays.get(f"{name}.{i}") for i in numbers) for name in ARRAYS}
        return cls(
            request=Request(**given),
            made_by=text["made_by"], regions=arrays["regions"], digests=tuple(text["digests"]),
        )  # fmt: skip


def made_by(pipe: Any) -> dict[str, str]:
    """The pipeline, the machine and the versions, as a record keeps them."""
    return {
        "pipeline": type(pipe).__name__,
        "name": str(pipe.config.get("_name_or_path", "")),
        "scheduler": _named(pipe.scheduler),
        "weights": weights_of(pipe),
        "dtype": str(pipe.transformer.dtype).removeprefix("torch."),
        "device": device_name(pipe.transformer.device),
        **versions(),
    }


def _named(scheduler: Any) -> str:
    """The class, and a digest of its options."""
    options = {name: value for name, value in sorted(scheduler.config.items()) if not name.startswith("_")}
    return f"{type(scheduler).__name__} {digest_of(json.dumps(options, default=str).encode())[:16]}"


def weights_of(pipe: Any) -> str:
    """A digest of the fingerprints of all parts of the pipeline that have weights."""
    parts = [part for _, part in sorted(pipe.components.items()) if isinstance(part, torch.nn.Module)]
    return digest_of("".join(map(fingerprint, parts)).encode())[:16]


def digest(picture: Float[np.ndarray, "h w 3"]) -> str:
    """SHA-256 of the values as float32."""
    return digest_of(np.ascontiguousarray(picture, dtype=np.float32).tobytes())


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check_model(record: Record, now: Mapping[str, str]) -> None:
    """Raise SaccadeError where the pipeline is not the one the record was made with."""
    for name in ("pipeline", "weights", "scheduler"):
        if record.made_by[name] != now[name]:
            said = f"{record.made_by['pipeline']} '{record.made_by['name']}'"
            raise SaccadeError(f"the record was made with another {name} ({said}); open that pipeline to replay it")


def frozen(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value
