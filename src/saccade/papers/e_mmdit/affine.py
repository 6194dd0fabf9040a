"""One modulation for all blocks of a diffusers transformer, and two small tables a block (AdaLN-affine).

>>> shared = share_modulation(pipe.transformer)
>>> optimiser = torch.optim.AdamW(shared.parts.parameters())
>>> shared.undo()

A block's layer W c + w becomes b + (1 + s) (S c + z): S and z are the means over blocks, s and b fit each block best,
row by row. Exact where blocks differ by factors of their rows alone; else the transformer has to be trained on.

Source: E-MMDiT (2025).
"""

from fnmatch import fnmatch
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.modulation import TableModulation

VECTORS = 6  # shift, scale and gate of a block's two halves


class Following(nn.Module):
    """Stands where a block's own linear layer stood."""

    def __init__(self, own: nn.Linear, shared: nn.Linear) -> None:
        super().__init__()
        self._shared = (shared,)  # a tuple: it belongs to all blocks
        self.table = TableModulation(own.in_features, VECTORS, affine=True).to(own.weight)
        follow = (own.weight * shared.weight).sum(1) / shared.weight.square().sum(1)
        self.table.scale = nn.Parameter((follow - 1).view(VECTORS, -1))
        self.table.bias = nn.Parameter((own.bias - follow * shared.bias).view(VECTORS, -1))

    def forward(self, c: Float[Tensor, "b d"]) -> Float[Tensor, "b kd"]:
        return torch.cat(self.table(self._shared[0](c)), dim=-1)[:, 0]


class Shared:
    """What `share_modulation` did; also a context manager that undoes it. `parts`: the shared layer, and the tables."""

    def __init__(self, transformer: nn.Module, layer: nn.Linear, replaced: dict[str, nn.Linear]) -> None:
        self.transformer, self.replaced = transformer, replaced
        with torch.no_grad():
            following = {name: Following(own, layer) for name, own in replaced.items()}
        for name, module in following.items():
            transformer.set_submodule(name, module)
        self.parts = nn.ModuleList([layer, *following.values()])

    def undo(self) -> None:
        """Put back what stood there."""
        for name, module in self.replaced.items():
            self.transformer.set_submodule(name, module)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def share_modulation(transformer: nn.Module, *, sites: str = "transformer_blocks.*.norm1*.linear") -> Shared:
    """Replace the layers whose names match `sites` and that make six vectors, on this instance only.

    Layers of another size (SD3's blocks with a second attention, the words of its last block) stay as they are.
    Raises ValueError where nothing matches.
    """
    found = {name: module for name, module in transformer.named_modules() if fnmatch(name, sites) and _fits(module)}
    if not found:
        raise ValueError(f"sites='{sites}' match no linear layer of six vectors in {type(transformer).__name__}")
    own: list[nn.Linear] = list(found.values())  # type: ignore[assignment]
    layer = nn.Linear(own[0].in_features, own[0].out_features).to(own[0].weight)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([each.weight for each in own]).mean(0))
        layer.bias.copy_(torch.stack([each.bias for each in own]).mean(0))
    return Shared(transformer, layer, found)  # type: ignore[arg-type]


def _fits(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.out_features == VECTORS * module.in_features
