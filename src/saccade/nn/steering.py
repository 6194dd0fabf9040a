"""Which weights Muon trains: matrices in rows of blocks, but for parts that steer them (modulation, routers ...).

A part says of itself that it steers, by the class attribute `steering` or by `steers(part)`; names decide nothing.
"""

from collections.abc import Iterator
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def steers(part: M) -> M:
    """Mark one module of a general class, such as a linear layer that makes a modulation; returns it."""
    part.steering = True  # type: ignore[assignment]
    return part


def muon_names(module: nn.Module) -> frozenset[str]:
    """Names of the parameters in numbered rows of modules and outside of all that steers; Muon takes the matrices."""
    return frozenset(_names(module, "", False))


def _names(module: nn.Module, prefix: str, in_row: bool) -> Iterator[str]:
    if getattr(module, "steering", False):
        return
    if in_row:
        yield from (f"{prefix}{name}" for name, _ in module.named_parameters(recurse=False))
    for name, child in module.named_children():
        yield from _names(child, f"{prefix}{name}.", in_row or name.isdigit())
