"""Hosts that call attention for one batch row after the other, each with its own real words alone, as Mochi does.

A plan is made for the tokens all rows could have. So what a row lacks is filled up with padding, which a mask hides,
and cut off again; and each row has its own memories, and its own of `Rows`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.core.rows import Rows
from saccade.core.state import Memory


@dataclass(frozen=True, eq=False)
class OneRow:
    """What the call of one batch row has of its own."""

    rows: Rows | None
    memories: Mapping[str, Memory]


def filled(x: Tensor, n: int) -> Tensor:
    """(b h m d) with tokens of zeros behind, n in all."""
    return torch.nn.functional.pad(x, (0, 0, 0, n - x.shape[2]))


def real(x: Tensor, n: int) -> Tensor:
    """(b 1 1 n) which tokens are there before x (b h m d) is filled."""
    return (torch.arange(n, device=x.device) < x.shape[2])[None, None, None].expand(x.shape[0], -1, -1, -1)
