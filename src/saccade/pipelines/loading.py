"""Open a diffusers pipeline by a shipped name, a directory, or an identifier that is in the local cache."""

import inspect
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from saccade.models import PIPELINES, path


def load_pipeline(model: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Any:
    """The pipeline of `model` on `device`; only what lies on this machine is read.

    Raises ValueError where there is no pipeline of that name.
    """
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    place = path(str(model)) if str(model) in PIPELINES else Path(model)
    if place.exists() and not (place / "model_index.json").is_file():
        raise ValueError(f"model='{model}' is no diffusers pipeline: {place} holds no model_index.json")
    given = {} if dtype is None else {"torch_dtype": dtype}
    source = place if place.exists() else str(model)
    try:
        with _quiet():
            pipe = DiffusionPipeline.from_pretrained(source, local_files_only=True, **given)
    except (OSError, ValueError) as error:
        if place.exists():
            raise
        raise ValueError(
            f"model='{model}' is neither a bundled model ({', '.join(PIPELINES)}), a directory, nor in the local cache"
        ) from error
    return pipe.to(device)


def check_call(model: str, given: Iterable[str]) -> None:
    """Options of a pipeline's call are among its arguments, where the model lies on this machine.

    Raises ValueError for the first that is not.
    """
    index = (path(model) if model in PIPELINES else Path(model)) / "model_index.json"
    if not (names := list(given)) or not index.is_file():
        return
    import diffusers

    name = json.loads(index.read_text()).get("_class_name", "")
    if (cls := getattr(diffusers, name, None)) is None:
        return
    known = list(inspect.signature(cls.__call__).parameters)[1:]
    if wrong := [name for name in names if name not in known]:
        raise ValueError(f"option '{wrong[0]}' is no argument of {name}, which takes {', '.join(known)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars of the host libraries while they load; switched on again afterwards where they were on."""
    import diffusers.utils.logging as ours
    import transformers.utils.logging as theirs

    on = [library for library in (ours, theirs) if library.is_progress_bar_enabled()]
    for library in on:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in on:
            library.enable_progress_bar()
