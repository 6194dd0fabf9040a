"""Tensors that outlive a forward, made so that a forward of another mode can use them."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def outside_inference() -> Generator[None, None, None]:
    """Leave inference mode, gradients staying off: what is made here may later take part in training."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    gradients = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):
        yield
