"""Memory that training needs beyond the weights: what a forward pass keeps for its backward pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def kept_bytes(forward: Callable[[], object], weights: Iterable[Tensor] = ()) -> int:
    """Bytes of the storages that autograd holds after `forward`, each counted once, those of `weights` left out.

    Counted, not measured: the same on every device, and free of what an allocator rounds up or keeps in hand.
    """
    apart = {weight.untyped_storage().data_ptr() for weight in weights}
    held: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in apart:
            held[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = forward()  # alive until counted: a freed storage's address could be used again
    del result
    return sum(held.values())
