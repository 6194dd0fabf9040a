"""What a record of a drawing needs: the model and machine it was made by, digests of results, and one file for all.

A file of safetensors: arrays as tensors, all else as JSON beside them. Nothing in it is ever run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from warnings import warn

import numpy as np
import torch
from jaxtyping import Float

from saccade.core.errors import SaccadeError
from saccade.metrics.machine import device_name, versions
from saccade.models.fingerprint import fingerprint

FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """What a file held: plain values of the request, arrays by name, who made it, and digests of the results."""

    request: dict[str, Any]
    arrays: dict[str, Any]
    made_by: Mapping[str, str]
    digests: tuple[str, ...]


def write_record(
    path: str | Path,
    verb: str,
    *,
    request: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    made_by: Mapping[str, str],
    digests: tuple[str, ...],
) -> Path:
    """Write a record of `verb` to a file, folders included."""
    from safetensors.numpy import save_file

    text = {"format": FORMAT, "request": dict(request), "made_by": dict(made_by), "digests": digests}
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(whole, file, metadata={f"saccade.{verb}": json.dumps(text)})
    return file


def read_record(path: str | Path, verb: str) -> Recorded:
    """Read it. Raises ValueError for a file that is no record of `verb`, or one of a later format."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np") as file:
            text = json.loads((file.metadata() or {})[f"saccade.{verb}"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, KeyError, SafetensorError) as error:
        raise ValueError(f"record='{path}' is no record of {verb}: {error}") from None
    if text["format"] != FORMAT:
        raise ValueError(f"record='{path}' has format {text['format']}, this saccade reads {FORMAT}; update it")
    request = {name: frozen(value) for name, value in text["request"].items()}
    return Recorded(request=request, arrays=arrays, made_by=text["made_by"], digests=tuple(text["digests"]))


def made_by(pipe: Any) -> dict[str, str]:
    """The pipeline, the machine and the versions, as a record keeps them."""
    model = pipe.unet if getattr(pipe, "transformer", None) is None else pipe.transformer
    return {
        "pipeline": type(pipe).__name__,
        "name": str(pipe.config.get("_name_or_path", "")),
        "scheduler": _named(pipe.scheduler),
        "weights": weights_of(pipe),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": device_name(model.device),
        **versions(),
    }


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What of the model, the machine and the versions is another, here and there."""
    pairs = {name: (one.get(name, "-"), other.get(name, "-")) for name in sorted({*one, *other})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def check_model(made: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise SaccadeError where the pipeline is not the one the record was made with."""
    for name in ("pipeline", "weights", "scheduler"):
        if made[name] != now[name]:
            said = f"{made['pipeline']} '{made['name']}'"
            raise SaccadeError(f"the record was made with another {name} ({said}); open that pipeline to replay it")


class Digested(Protocol):
    """A record: digests of its results, and what of another's making differs."""

    @property
    def digests(self) -> tuple[str, ...]: ...
    def differs(self, other: Any) -> dict[str, tuple[str, str]]: ...


def warn_of_other_bits(what: str, record: Digested, again: Digested) -> None:
    """Warn, naming what is known to differ, where pictures or videos made again are not those of the record."""
    if again.digests != record.digests:
        changed = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in record.differs(again).items())
        warn(f"the {what} are not those of the record bit for bit: {changed or 'nothing known differs'}", stacklevel=3)


def weights_of(pipe: Any) -> str:
    """A digest of the fingerprints of all parts of the pipeline that have weights."""
    parts = [part for _, part in sorted(pipe.components.items()) if isinstance(part, torch.nn.Module)]
    return digest_of("".join(map(fingerprint, parts)).encode())[:16]


def digest(picture: Float[np.ndarray, "*t h w 3"]) -> str:
    """SHA-256 of the values as float32."""
    return digest_of(np.ascontiguousarray(picture, dtype=np.float32).tobytes())


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def frozen(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def _named(scheduler: Any) -> str:
    """The class, and a digest of its options."""
    options = {name: value for name, value in sorted(scheduler.config.items()) if not name.startswith("_")}
    return f"{type(scheduler).__name__} {digest_of(json.dumps(options, default=str).encode())[:16]}"
