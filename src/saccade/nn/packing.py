"""Sequences of different lengths: side by side with padding (b m d), or one after the other (1 n d) without."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Packed(NamedTuple):
    """Sequences in a batch of one, and the length of each."""

    tokens: Float[Tensor, "1 n d"]
    lengths: tuple[int, ...]


def pack(x: Float[Tensor, "b m d"], keep: Bool[Tensor, "b m"]) -> Packed:
    """The kept tokens of every row, one row after the other."""
    return Packed(x[keep][None], tuple(keep.sum(1).tolist()))


def unpack(tokens: Float[Tensor, "1 n d"], keep: Bool[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
    """Back to where `pack` took them from; zeros elsewhere.

    Raises ValueError where `keep` holds another number of tokens.
    """
    if int(keep.sum()) != tokens.shape[1]:
        raise ValueError(f"keep has room for {int(keep.sum())} tokens, not {tokens.shape[1]}; give that of pack")
    rows = tokens.new_zeros(*keep.shape, tokens.shape[-1])
    return rows.masked_scatter(keep[..., None], tokens)


def ragged(lengths: tuple[int, ...], longest: int | None = None) -> Bool[Tensor, "b m"]:
    """True at the first `lengths[i]` places of row i, out of `longest` (None: of the longest row)."""
    return torch.arange(max(lengths) if longest is None else longest) < torch.tensor(lengths)[:, None]


def per_token(each: Float[Tensor, "s 1 d"], lengths: tuple[int, ...]) -> Float[Tensor, "1 n d"]:
    """One vector for each packed sequence (or one for all), repeated for each of its tokens."""
    counts = torch.tensor(lengths, device=each.device)
    return each[:, 0].expand(len(lengths), -1).repeat_interleave(counts, dim=0, output_size=sum(lengths))[None]
