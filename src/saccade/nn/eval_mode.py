"""Modules in evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, then the mode that was, of every part."""
    was = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(was[model])
        for module, training in was.items():
            module.training = training
