"""Layers of a model by number, the stem being 1, and what goes into them and comes out."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saccade.nn.eval_mode import eval_mode

LISTS = ("blocks", "features")  # where timm and torchvision keep a model's layers


class Shapes(NamedTuple):
    """What a layer takes and gives."""

    taken: tuple[int, ...]
    given: tuple[int, ...]


def layer_names(model: nn.Module) -> dict[int, str]:
    """Names of the layers by number: the stem, then the blocks of all stages; none where a model keeps no such list.

    `features` of torchvision begin with the stem; `blocks` of timm follow it.
    """
    for name in LISTS:
        if isinstance(found := getattr(model, name, None), (nn.Sequential, nn.ModuleList)):
            blocks = [f"{name}.{each}" for each in _blocks(found)]
            stem = [] if name == "features" else [next(iter(dict(model.named_children())))]
            return dict(enumerate([*stem, *blocks], start=1))
    return {}


def _blocks(stages: nn.Module) -> Iterator[str]:
    """Blocks of stages, or the blocks themselves where they are in no stages."""
    for name, stage in stages.named_children():
        if type(stage) is nn.Sequential and all(not _is_plain(block) for block in stage):
            yield from (f"{name}.{i}" for i in range(len(stage)))
        else:
            yield name


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is one layer of torch and not a block of some."""
    return next(layer.children(), None) is None


def resolved(model: nn.Module, layers: Iterable[int | str]) -> list[str]:
    """Names of layers given by number or name.

    Raises ValueError for a number or a name that is not there.
    """
    numbered = layer_names(model)
    return [_name(model, each, numbered) for each in layers]


def _name(model: nn.Module, layer: int | str, numbered: dict[int, str]) -> str:
    if isinstance(layer, int):
        if layer not in numbered:
            known = f"numbers 1 to {len(numbered)}" if numbered else "no numbered layers; name a module"
            raise ValueError(f"layer {layer} is not in this {type(model).__name__}, which has {known}")
        return numbered[layer]
    if not layer or layer not in dict(model.named_modules()):
        raise ValueError(f"layer '{layer}' is not in this {type(model).__name__}; see model.named_modules()")
    return layer


def shapes_of(model: nn.Module, names: Iterable[str], inputs: tuple[Any, ...]) -> dict[str, Shapes]:
    """Shapes at these layers in `model(*inputs)`, where nothing is trained or changed.

    Raises ValueError for a layer that did not run, or whose output is no tensor.
    """
    names = list(names)
    with _noted(model, names) as found, eval_mode(model), torch.no_grad():
        model(*inputs)
    if silent := [name for name in names if name not in found]:
        raise ValueError(f"layer '{silent[0]}' did not run on these inputs, or gives no tensor; choose another")
    return found


@contextmanager
def _noted(model: nn.Module, names: list[str]) -> Iterator[dict[str, Shapes]]:
    found: dict[str, Shapes] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if isinstance(out, Tensor) and args and isinstance(args[0], Tensor):
                found.setdefault(name, Shapes(tuple(args[0].shape), tuple(out.shape)))

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
