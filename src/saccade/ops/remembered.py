"""What was made from tensors that are given again and again: kept while they live, made anew once they change."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_made: Any = WeakIdKeyDictionary()


def remembered(x: Tensor, key: Hashable, make: Callable[[], Any]) -> Any:
    """make(), once for every view of x's memory like x; a value may hold no tensor of that memory.

    Tensors of inference mode count no writes, and inside a graph nothing is kept: there it is made each time.
    """
    if torch.compiler.is_compiling() or x.is_inference():
        return make()
    owner = x if x._base is None else x._base
    view = (key, x._version, x.dtype, x.shape, x.stride(), x.storage_offset())
    kept = _made.setdefault(owner, {})
    if view not in kept:
        for old in [old for old in kept if old[1] != x._version]:
            del kept[old]
        kept[view] = make()
    return kept[view]


def constant(values: tuple[int, ...] | tuple[bool, ...], device: torch.device) -> Tensor:
    """A small tensor of plain numbers, copied to a device once."""
    if torch.compiler.is_compiling():
        return torch.tensor(values, device=device)
    return _constant(values, torch.bool if all(isinstance(value, bool) for value in values) else torch.int64, device)


@lru_cache(maxsize=256)
def _constant(values: tuple[int, ...] | tuple[bool, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # the type is part of the key, since True is equal to 1
        return torch.tensor(values, dtype=dtype, device=device)
