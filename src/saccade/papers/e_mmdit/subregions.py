"""Alternating subregions: attention inside groups of tokens, other groups in the next block.

The token at place t of its sequence belongs to group floor(t / run) mod regions. (regions, run) = (4, 1) takes every
fourth token, (4, 4) every fourth run of four; one after the other they connect every token with every other. What a
group looks like on a picture depends on the grid's width, since places count along the rows.

Source: E-MMDiT (2025).
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from saccade.nn.attention import SelfAttention
from saccade.nn.part import TokenPositions
from saccade.nn.registry import mixer

Pattern = tuple[int, int]  # regions, run
FULL: tuple[Pattern, ...] = ((1, 1),)
ALTERNATING: tuple[Pattern, ...] = ((1, 1), (4, 1), (4, 4))


def group_of(tokens: int, regions: int, run: int, device: torch.device | str | None = None) -> Int[Tensor, " n"]:
    """Number of each token's group."""
    return torch.arange(tokens, device=device).div(run, rounding_mode="floor") % regions


def split(x: Shaped[Tensor, "b n *d"], regions: int, run: int) -> Shaped[Tensor, "br m *d"]:
    """Groups to the batch axis: row b regions + g holds group g of row b."""
    check_length(x.shape[1], regions, run)
    cells = x.unflatten(1, (-1, regions, run)).transpose(1, 2)  # (b regions n/(regions run) run d)
    return cells.flatten(2, 3).flatten(0, 1)


def join(x: Shaped[Tensor, "br m *d"], regions: int, run: int) -> Shaped[Tensor, "b n *d"]:
    """The inverse of `split`."""
    cells = x.unflatten(0, (-1, regions)).unflatten(2, (-1, run))
    return cells.transpose(1, 2).flatten(1, 3)


def check_length(tokens: int, regions: int, run: int, what: str = "tokens") -> None:
    """Raise ValueError unless so many tokens fall into groups of one size."""
    if regions > 1 and (not tokens or tokens % (regions * run)):
        raise ValueError(
            f"{tokens} {what} must be a multiple of {regions * run}, {regions} regions of runs of {run}; "
            "pad or resize, or leave subregions out"
        )


def check_pattern(regions: int, run: int) -> None:
    """Raise ValueError for numbers below one."""
    if regions < 1 or run < 1:
        raise ValueError(f"regions={regions}, run={run} must be at least 1; regions=1 is full attention")


def alternating(depth: int, patterns: tuple[Pattern, ...] = ALTERNATING, options: str = "") -> tuple[str, ...]:
    """A text for each block's mixer: `options`, such as "qk_norm=True", hold for all."""
    more = f", {options}" if options else ""
    return tuple(f"asa(regions={r}, run={n}{more})" for r, n in (patterns[i % len(patterns)] for i in range(depth)))


@mixer("asa")
class SubregionAttention(SelfAttention):
    """Self-attention inside groups; rotations are by place on the whole grid.

    regions   groups; 1: full attention
    run       neighbouring tokens that share a group
    and the options of "attention"
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        regions: int = 4,
        run: int = 1,
        head_dim: int | None = None,
        qk_norm: bool = False,
        rotary: bool = False,
        return_trace: bool = False,
    ) -> None:
        check_pattern(regions, run)
        super().__init__(width, heads, head_dim=head_dim, qk_norm=qk_norm, rotary=rotary, return_trace=return_trace)
        self.regions, self.run = regions, run

    def attend(
        self,
        q: Float[Tensor, "b h n e"],
        k: Float[Tensor, "b h n e"],
        v: Float[Tensor, "b h n e"],
        place: TokenPositions,
    ) -> Float[Tensor, "b h n e"]:
        """Softmax attention within each group of each row.

        Raises ValueError for packed sequences.
        """
        if place.lengths is not None:
            raise ValueError(f"asa cannot split packed sequences (place.lengths={place.lengths}); give one a row")
        if self.regions == 1:
            return super().attend(q, k, v, place)
        q, k, v = (split(x.transpose(1, 2), self.regions, self.run).transpose(1, 2) for x in (q, k, v))
        keep = None if place.keep is None else split(place.keep, self.regions, self.run)
        out = super().attend(q, k, v, replace(place, keep=keep))
        return join(out.transpose(1, 2), self.regions, self.run).transpose(1, 2)
