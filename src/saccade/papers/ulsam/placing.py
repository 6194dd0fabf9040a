"""ULSAM where a layer gives maps, maps with channels last, or tokens of a picture's patches."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from saccade.nn.part import to_map, to_tokens
from saccade.papers.ulsam.subspace_attention import ULSAM


class PatchGrid:
    """The grid of a transformer's patches, noted whenever it is called; `prefix`: tokens before those of the grid.

    Raises ValueError for a transformer that does not say how large its patches are, and for other tokens than theirs.
    """

    def __init__(self, model: nn.Module, layer: str, tokens: int, picture: Tensor) -> None:
        size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
        if size is None:
            raise ValueError(
                f"layer '{layer}' gives tokens, and this {type(model).__name__} has no patch_embed.patch_size to say "
                "where they lie; choose a layer that gives a map (b, c, h, w)"
            )
        self.patch: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self.sides = self._of(picture)
        self.prefix = tokens - self.sides[0] * self.sides[1]
        if self.prefix < 0 or self.prefix != getattr(model, "num_prefix_tokens", self.prefix):
            raise ValueError(
                f"layer '{layer}' gives {tokens} tokens, not one for each of the {self.sides[0]} x {self.sides[1]} "
                "patches beside class and register tokens; choose a layer that does"
            )

    def watch(self, model: nn.Module) -> RemovableHandle:
        """Note the grid of every picture from now on."""
        return model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.sides = self._of(args[0] if args else kwargs["x"])

    def _of(self, picture: Tensor) -> tuple[int, int]:
        h, w = picture.shape[-2:]
        return -(-h // self.patch[0]), -(-w // self.patch[1])


class PlacedULSAM(nn.Module):
    """ULSAM on what a layer gives: maps (b c h w), maps with channels last, or tokens, the last of them on a grid."""

    def __init__(self, layer: ULSAM, *, last: bool = False, grid: PatchGrid | None = None) -> None:
        super().__init__()
        self.layer, self.last, self._grid = layer, last, (grid,)  # a tuple: the grid is the model's, no part of this

    def forward(self, x: Float[Tensor, "..."], *_: Any, **__: Any) -> Float[Tensor, "..."]:
        """The same shape."""
        if self._grid[0] is not None:
            return self._on_tokens(x, self._grid[0])
        return self.layer(x.movedim(-1, 1)).movedim(1, -1) if self.last else self.layer(x)

    def _on_tokens(self, x: Float[Tensor, "b n c"], grid: PatchGrid) -> Float[Tensor, "b n c"]:
        weighed = to_tokens(self.layer(to_map(x[:, grid.prefix :], grid.sides)))
        return torch.cat((x[:, : grid.prefix], weighed), dim=1)
