"""Labels of tokens, (n) for all batch rows or (b n), as masks by class read them, and which tokens a name means."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.layout import Layout


def one_class(label: Int[Tensor, "*b B s"]) -> Bool[Tensor, "*b B"]:
    """Blocks whose tokens have one label."""
    return label.amin(-1) == label.amax(-1)


def num_rows(label: Tensor) -> int:
    """Batch rows that labels (n) or (b n) distinguish."""
    return label.shape[0] if label.ndim > 1 else 1


def labels(label: Tensor, n: int, device: torch.device | str | None, fill: int | bool = -1) -> Tensor:
    """(b? n0) -> (b|1, n), tokens past the end filled with the open value.

    Raises ValueError for labels of more tokens.
    """
    label = label.to(device) if label.ndim > 1 else label.to(device)[None]
    extra = n - label.shape[1]
    if extra < 0:
        raise ValueError(f"a mask over {label.shape[1]} tokens does not fit a layout of {n}; build it for this layout")
    return torch.nn.functional.pad(label, (0, extra), value=fill) if extra else label


def pick(label: Tensor, b: Tensor, i: Tensor) -> Tensor:
    """The labels (b|1 n) of tokens i in batch rows b."""
    return label[b * (label.shape[0] > 1), i]


def member(layout: Layout, which: str, device: torch.device | str | None = None) -> Bool[Tensor, " n"]:
    """Tokens of the segment kind or name `which`; an unknown name selects nothing (open world)."""
    parts = [torch.full((s.n,), which in (s.kind, s.name), device=device) for s in layout.segments]
    return torch.cat(parts)
