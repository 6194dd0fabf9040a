"""What an attention map is like: how spread its rows are, how much heads differ, how much goes to the first key.

All take probabilities (.. h n n), a map for each head, row i being what query i gives to keys 0 .. i; each indicator is
a number for every map. Uniform causal attention, A_ij = 1 / i, has entropy sum ln i, concentration sqrt(H) and sink and
locality(0) H / n, H being the sum of 1 / i.

Source: Xue et al., "Deconstructing attention" (2025).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Indicators:
    """Of every head's map (.. h), but for `diversity`, which is of all heads (..).

    locality   by distance 0 to 3, last axis
    """

    entropy: Float[Tensor, "*b h"]
    concentration: Float[Tensor, "*b h"]
    diversity: Float[Tensor, "*b"]
    sink: Float[Tensor, "*b h"]
    locality: Float[Tensor, "*b h distances"]


def indicators(maps: Float[Tensor, "*b h n n"], distances: int = 4) -> Indicators:
    """All of them; `distances`: of locality, from 0 up, no more than there are tokens."""
    reached = range(min(distances, maps.shape[-1]))
    return Indicators(
        entropy=entropy(maps),
        concentration=concentration(maps),
        diversity=diversity(maps),
        sink=sink(maps),
        locality=torch.stack([locality(maps, distance) for distance in reached], dim=-1),
    )


def entropy(maps: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b"]:
    """-sum a log a over a whole map, in nats; 0 log 0 = 0."""
    return torch.special.entr(maps).sum((-2, -1))


def concentration(maps: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b"]:
    """The Frobenius norm: sqrt(n) where every row looks at one key."""
    return maps.square().sum((-2, -1)).sqrt()


def diversity(maps: Float[Tensor, "*b h n n"]) -> Float[Tensor, "*b"]:
    """Standard deviation over heads (of the sample: h - 1), its mean over the pairs i >= j.

    Raises ValueError for one head, which differs from no other.
    """
    if maps.shape[-3] < 2:
        raise ValueError(f"maps of shape {tuple(maps.shape)} have one head; diversity compares two or more")
    n = maps.shape[-1]
    return maps.std(-3).tril().sum((-2, -1)) * 2 / (n * (n + 1))


def sink(maps: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b"]:
    """What goes to the first key, mean over queries."""
    return maps[..., 0].mean(-1)


def locality(maps: Float[Tensor, "*b n n"], distance: int = 0) -> Float[Tensor, "*b"]:
    """What goes to the key `distance` before, mean over the n - distance queries that have one.

    Raises ValueError for a distance that no two tokens have.
    """
    n = maps.shape[-1]
    if not 0 <= distance < n:
        raise ValueError(f"distance={distance} must be between 0 and {n - 1}, the map being {n} x {n}")
    return maps.diagonal(-distance, dim1=-2, dim2=-1).sum(-1) / (n - distance)


def min_max(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Brought to [0, 1] over all values, for plots; zeros where all are alike."""
    low, high = values.min(), values.max()
    return (values - low) / torch.where(high > low, high - low, torch.ones_like(high))
