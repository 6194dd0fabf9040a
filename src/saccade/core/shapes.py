"""Shapes, with the types torch leaves out."""

import torch


def broadcast_shape(*shapes: torch.Size) -> torch.Size:
    """The shape these broadcast to.

    Raises RuntimeError where they do not, as torch.broadcast_shapes does.
    """
    return torch.broadcast_shapes(*shapes)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
