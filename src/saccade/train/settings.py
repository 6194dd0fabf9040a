"""What decides the result of a training, kept in its folder: whoever goes on there must have the same.

Every option of a configuration is part of it, but for those its class names in `free`: they change how long a run is,
what it writes, or the bits of its result by rounding.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from saccade.models.stored import read_config
from saccade.train.checkpoint import CHECKPOINT, RESULT, write_atomically

log = logging.getLogger(__name__)

SETTINGS = "settings.json"
SHOWN = 6  # differences that an error spells out
NOTHING = "nothing"


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """The options of dataclasses and mappings in one another by their dotted paths, as `--set` writes them."""
    if is_dataclass(value) and not isinstance(value, type):
        free = getattr(value, "free", ())
        value = {each.name: getattr(value, each.name) for each in fields(value) if each.name not in free}
    if not isinstance(value, Mapping):
        return {path: value}
    found: dict[str, Any] = {}
    for name, each in value.items():
        found |= flat(each, f"{path}.{name}" if path else str(name))
    return found


def named(value: Any, options: str = "") -> dict[str, Any]:
    """The class of an object, with its options where it, or its attribute `options`, is a dataclass."""
    found = getattr(value, options, None) if options else value
    return {"class": type(value).__name__} | (flat(found) if is_dataclass(found) else {})


def check_settings(file: Path, settings: Any) -> None:
    """Raise ValueError where `file` holds other settings, naming those that differ."""
    if not file.exists():
        return
    old, new = flat(read_config(file)), json.loads(_json(settings))
    names = [name for name in {**new, **old} if old.get(name, NOTHING) != new.get(name, NOTHING)]
    if names:
        found = [f"{name}: {old.get(name, NOTHING)} there, {new.get(name, NOTHING)} here" for name in names[:SHOWN]]
        more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ValueError(
            f"folder='{file.parent}' holds runs of other settings ({'; '.join(found)}{more}); "
            "name another folder, or give the settings it has"
        )


def check_run(folder: Path, settings: Any) -> None:
    """Raise ValueError where `folder` has a training, finished or not, of other settings."""
    if (folder / CHECKPOINT).exists() or (folder / RESULT).exists():
        check_settings(folder / SETTINGS, settings)
        if not (folder / SETTINGS).exists():
            log.warning("%s does not tell its settings, so they are taken to be these", folder)


def keep_settings(file: Path, settings: Any) -> None:
    """Write down the settings of a folder, or raise ValueError where it has others."""
    check_settings(file, settings)
    write_settings(file, settings)


def write_settings(file: Path, settings: Any) -> None:
    """Write down the settings of a folder."""
    write_atomically(file, lambda path: path.write_text(_json(settings) + "\n"))


def _json(settings: Any) -> str:
    return json.dumps(flat(settings), indent=1, default=str)
