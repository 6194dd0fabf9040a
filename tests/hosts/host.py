"""A tiny random model of a real host class, and inputs for one forward of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import saccade
from saccade.core.masks import Mask
from saccade.core.site import Where
from saccade.run.attached_model import family_of, inside
from saccade.run.run import Run
from tests.hosts.stand_ins import OPEN, WINDOW

EVERY_KIND = Where(kinds=("joint", "self", "cross"))
Make = Callable[[], tuple[nn.Module, dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class Host:
    """A model in eval mode with fixed weights, and the keyword arguments of a forward of two batch rows.

    `layout`: what the tokens of its first joint or self site are, as `Layout.describe` says it.
    `window` is a mask that bites on its tokens, `open` one of the same kind that lets all pairs pass.
    `text` is the argument that holds the words, which lie along `text_axis`.
    `image` is where the image lies in the output, where more than the image comes out.
    `counted` models number their blocks, and stay whole where others lose some.
    `maps`: arguments named as masks that say nothing of padded text. `leaks`: the host's own code hears padded text
    outside attention. `idle`: a site whose output nothing reads. `lacks`: what its family offers, but not at all
    sites. `turns_in`: the type in which it rotates q and k. `chooses`: it masks what
    its own q and k say in every call, and uncompiled torch does not heed that mask.
    """

    name: str
    make: Make
    layout: str = ""
    window: Mask = WINDOW
    open: Mask = OPEN
    maps: tuple[str, ...] = ("attn_mask",)
    leaks: bool = False
    text: str = "encoder_hidden_states"
    text_axis: int = 1
    image: tuple[slice, ...] = ()
    counted: bool = False
    idle: str = ""
    lacks: tuple[str, ...] = ()
    turns_in: torch.dtype = torch.float32
    chooses: bool = False

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
        if hasattr(model, "down_blocks") or self.counted:
            return model, inputs
        for blocks in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
            if len({_kind(block) for block in blocks}) == 1 and len(list(blocks[0].children())) > 1:
                del blocks[1:]
        return model, inputs


def attach(model: Any, *stack: Any, **options: Any) -> Run:
    """`saccade.attach`, at cross-attention too where a host has no other."""
    alone = set(family_of(inside(model)).sites.values()) == {"cross"}
    return saccade.attach(model, *stack, **({"where": EVERY_KIND} if alone else {}) | options)


def _kind(block: nn.Module) -> tuple[object, ...]:
    """What blocks that may stand for one another have in common."""
    return type(block), *(parameter.shape for parameter in block.parameters())


def output(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """What a forward gives: its one tensor, or all in one, as of two streams, rows in a list, or a control net.

    Of models of transformers the first, without caches.
    """
    with torch.no_grad():
        result = model(**inputs)
    if type(inside(model)).__module__.startswith("transformers"):
        return result[0]
    found = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    return found[0] if len(found) == 1 else torch.cat([tensor.flatten() for tensor in found])
