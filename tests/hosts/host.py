"""A tiny random model of a real host class, and inputs for one forward of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.core.masks import Mask
from tests.hosts.stand_ins import OPEN, WINDOW

Make = Callable[[], tuple[nn.Module, dict[str, Any]]]


@dataclass(frozen=True)
class Host:
    """A model in eval mode with fixed weights, and the keyword arguments of a forward of two batch rows.

    `layout`: what the tokens of its first joint or self site are, as `Layout.describe` says it.
    `window` is a mask that bites on its tokens, `open` one of the same kind that lets all pairs pass.
    `text` is the argument that holds the words, which lie along `text_axis`.
    """

    name: str
    make: Make
    layout: str = ""
    window: Mask = WINDOW
    open: Mask = OPEN
    text: str = "encoder_hidden_states"
    text_axis: int = 1

    def build(self, seed: int = 0) -> tuple[Any, dict[str, Any]]:
        """The model and its inputs, the same for the same seed."""
        torch.manual_seed(seed)
        model, inputs = self.make()
        for parameter in model.parameters():  # biases and gates start at zero in some hosts, which would hide attention
            with torch.no_grad():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model.eval(), inputs

    def shallow(self) -> tuple[Any, dict[str, Any]]:
        """The same with one block of each kind, since tracing a graph takes as long as the model is deep.

        A U-Net's blocks differ in their width, and it stays whole.
        """
        model, inputs = self.build()
        if hasattr(model, "down_blocks"):
            return model, inputs
        for blocks in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
            if len({type(block) for block in blocks}) == 1:
                del blocks[1:]
        return model, inputs


def output(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """The first tensor of a forward; of a ControlNet, which returns one for each block, all in one."""
    with torch.no_grad():
        result = model(**inputs)
    first = result[0] if isinstance(result, tuple) else result
    return first if isinstance(first, Tensor) else torch.cat([x for part in result for x in part])
