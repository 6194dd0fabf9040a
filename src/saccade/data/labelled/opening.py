"""A source by its name, as commands and recipes write it."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from saccade.data.labelled.cifar import open_cifar10
from saccade.data.labelled.controlled import open_controlled
from saccade.data.labelled.folder import open_folder
from saccade.data.labelled.scenes import open_scenes
from saccade.data.labelled.source import Source

FOLDER = "folder:"
OPENERS: dict[str, Callable[..., Source]] = {
    "scenes": open_scenes, "controlled-scenes": open_controlled, "cifar10": open_cifar10,
}  # fmt: skip


def open_source(name: str, side: int = 32, **options: Any) -> Source:
    """The source `scenes`, `controlled-scenes`, `cifar10` or `folder:PATH` at `side` pixels.

    `options`: those of `open_scenes` (label, count, held, seed), `open_controlled` (things, kinds, dropped, seed),
    `open_cifar10` (flip, cache) or `open_folder` (held, flip, cache).
    Raises ValueError for an unknown name or option, FileNotFoundError where files are missing.
    """
    opener = _opener(name)
    known = [key for key in signature(opener).parameters if key not in ("path", "side")]
    for option in options:
        if option not in known:
            raise ValueError(f"option '{option}' is unknown to source='{name}'; choose from {', '.join(known)}")
    return opener(side=side, **options)


def _opener(name: str) -> Callable[..., Source]:
    if name.startswith(FOLDER):
        return partial(open_folder, name.removeprefix(FOLDER))
    if name not in OPENERS:
        raise ValueError(f"source='{name}' is unknown; choose one of {', '.join(OPENERS)}, {FOLDER}PATH")
    return OPENERS[name]
