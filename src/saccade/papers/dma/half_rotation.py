"""Rotary positions whose pairs are channel i and channel i + e/2 of a head, as in Llama's kin and the official code."""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.nn.positions import split_channels


def half_angles(places: Float[Tensor, "n axes"], channels: int, base: float) -> Float[Tensor, "n {channels}//2"]:
    """Radians of each pair; where places have several axes, each turns its own share of the pairs.

    Raises ValueError for an odd number of channels.
    """
    if channels % 2:
        raise ValueError(f"channels={channels} of a head must be even to be turned in pairs")
    shares = split_channels(channels, places.shape[1])
    turns = [base ** -(torch.arange(0, each, 2, dtype=torch.float64) / each) for each in shares]
    return torch.cat([places[:, axis, None].double() * turn.to(places) for axis, turn in enumerate(turns)], dim=1)


def rotate_halves(x: Float[Tensor, "b h n e"], angles: Float[Tensor, "n e//2"]) -> Float[Tensor, "b h n e"]:
    """Turn each pair by its angle."""
    cos, sin = (torch.cat((each, each), dim=-1).to(x) for each in (angles.cos(), angles.sin()))
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
