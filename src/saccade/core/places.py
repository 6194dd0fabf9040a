"""Masks over places: discs, bands, causal order. Discs and bands name only pairs of the same image grid."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.masks import Device, Mask, Rule

AXES = {"t": 0, "y": 1, "x": 2}


@dataclass(frozen=True)
class Disc(Mask):
    """Image tokens see image tokens nearer than `radius`, in tokens: dt^2 + dy^2 + dx^2 < radius^2, strictly."""

    radius: float

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ValueError(f"radius={self.radius} must be positive; 1 leaves each image token its own key only")

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        q_at, k_at = grid_places(layout_q, device), grid_places(layout_k, device)

        def permits(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            dt, dy, dx = (q_at[axis][q] - k_at[axis][k] for axis in range(3))
            return dt**2 + dy**2 + dx**2 < self.radius**2

        return _same_grid(q_at, k_at), permits


@dataclass(frozen=True)
class Band(Mask):
    """Image tokens see image tokens fewer than `width` steps away along one axis of the grid."""

    axis: Literal["t", "y", "x"]
    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width={self.width} must be at least 1, which leaves each token its own line")

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        q_at, k_at = grid_places(layout_q, device), grid_places(layout_k, device)
        line_q, line_k = q_at[AXES[self.axis]], k_at[AXES[self.axis]]
        return _same_grid(q_at, k_at), lambda b, h, q, k: (line_q[q] - line_k[k]).abs() < self.width


@dataclass(frozen=True)
class Causal(Mask):
    """Every query sees the keys at or before its own place; places count from the end when keys outnumber queries."""

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        ahead = layout_k.n - layout_q.n
        return lambda b, h, q, k: torch.ones_like(q + k, dtype=torch.bool), lambda b, h, q, k: k <= q + ahead


def grid_places(layout: Layout, device: Device) -> Tensor:
    """(4, n) int32: t, y, x and the number of the image grid a token lies on, -1 for all other tokens."""
    places = torch.full((4, layout.n), -1, dtype=torch.int32, device=device)
    coords = layout.coords(device).T.to(torch.int32)
    for number, segment in enumerate(layout.of("image")):
        if segment.grid is not None:
            span = layout.span(segment.name)
            places[:3, span], places[3, span] = coords[:, span], number
    return places


def _same_grid(q_at: Tensor, k_at: Tensor):  # noqa: ANN202
    return lambda b, h, q, k: (q_at[3][q] >= 0) & (q_at[3][q] == k_at[3][k])
