"""How alike two tokens' rows of attention are, by whether they share a window and by how far the keys are."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.papers.pt_dit.windows import Sizes, partition

Rows = Float[Tensor, "bh n n"]


@torch.no_grad()
def attention_maps(layers: Sequence[nn.Module], model: nn.Module, *inputs: Tensor) -> list[Rows]:
    """Each self-attention's softmax, batch and heads in one axis, in one forward of the model."""
    seen: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for layer in layers]
    model(*inputs)
    for hook in hooks:
        hook.remove()
    return [_map(layer, x) for layer, x in zip(layers, seen, strict=True)]


def pair_likeness(rows: Rows, grid: Sizes, window: Sizes) -> dict[str, float]:
    """Mean cosine of pairs within a window and across windows; of neighbours apart, since these are near anyway."""
    unit = F.normalize(rows, dim=-1)
    cosine = (unit @ unit.mT).mean(0)
    place = _places(grid)
    home = place // torch.tensor(window[1:])
    same, steps = (home[:, None] == home).all(-1), (place[:, None] - place).abs().sum(-1)
    return {
        "within": cosine[same & (steps > 0)].mean().item(), "across": cosine[~same].mean().item(),
        "neighbours_within": cosine[same & (steps == 1)].mean().item(),
        "neighbours_across": cosine[~same & (steps == 1)].mean().item(),
    }  # fmt: skip


def ring_likeness(rows: Rows, grid: Sizes, window: Sizes, rings: Sequence[int]) -> list[float]:
    """Mean cosine of pairs within a window, looking only at keys in each ring around its middle, in tokens."""
    place = _places(grid).float()
    middle = partition(place[None], grid, window)[0].mean(1)
    far = (middle[:, None] - place).abs().amax(-1)  # (windows n)
    parts = partition(rows, grid, window)  # (bh windows p n)
    found = []
    for low, high in zip(rings, rings[1:], strict=False):
        unit = F.normalize(parts * ((far >= low) & (far < high))[None, :, None], dim=-1)
        cosine = unit @ unit.mT
        found.append(cosine[..., ~torch.eye(cosine.shape[-1], dtype=torch.bool)].mean().item())
    return found


def _places(grid: Sizes) -> Tensor:
    """Row and column of each token of a picture."""
    return torch.cartesian_prod(*(torch.arange(size) for size in grid[1:]))


def _map(layer: Any, x: Float[Tensor, "b n d"]) -> Rows:
    q, k = (part(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in (layer.q, layer.k))
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).flatten(0, 1)
