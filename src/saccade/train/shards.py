"""Weights, gradients and optimiser states shared out among processes (FSDP2), and put together for storage."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def shard_(module: nn.Module, device: torch.device, processes: int) -> FSDPModule:
    """Shard every block, an entry of a `ModuleList`, then what is left; in place.

    Raises ValueError where there is one process.
    """
    if processes < 2:
        raise ValueError(
            f"shard=True has nothing to share out with processes={processes}; start two or more by accelerate launch"
        )
    mesh = init_device_mesh(device.type, (processes,))
    for blocks in [each for each in module.modules() if isinstance(each, nn.ModuleList)]:
        for block in blocks:
            fully_shard(block, mesh=mesh)
    return fully_shard(module, mesh=mesh)


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """What is in no block is whole for a while, so that parts of `module` can be called; all processes must enter."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    yield
    module.reshard()


def whole(tree: Any) -> Any:
    """A nest with every sharded tensor put together, on the CPU; all processes must call."""
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(whole(value) for value in tree)
    return tree.full_tensor().cpu() if isinstance(tree, DTensor) else tree


def spread(state: dict[str, Any], like: dict[str, Tensor]) -> dict[str, Any]:
    """Whole tensors shared out as those of `like` are, entry by entry."""
    return {name: _spread(value, like[name]) if name in like else value for name, value in state.items()}


def spread_optimiser(state: dict[str, Any], optimiser: Optimizer) -> dict[str, Any]:
    """An optimiser's stored state, each entry shared out as its parameter is."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    entries = {
        i: {name: _spread(value, weights[i]) for name, value in entry.items()} for i, entry in state["state"].items()
    }
    return state | {"state": entries}


def _spread(value: Any, like: Tensor) -> Any:
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value
