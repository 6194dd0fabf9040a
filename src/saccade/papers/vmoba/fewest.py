"""The fewest numbers, largest first, that sum to what is needed; where there are many, without sorting them all.

Numbers that are not negative stand in the order of their bits, so sums by the upper half of the bits say in which range
the last one taken lies. What is above is taken, and only that range is sorted.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MANY = 1 << 15  # numbers above which sums by range take less than sorting
HALF = 16  # bits


def fewest_reaching(x: Float[Tensor, "*g p"], needed: Float[Tensor, "*g 1"]) -> Bool[Tensor, "*g p"]:
    """Flags of the fewest numbers of each row whose sum reaches what is needed, at least one; all where it never does.

    Negative ones come last and count as 0; of equal ones the earlier come first. Sums are taken in float64.
    """
    if x.shape[-1] <= MANY or x.dtype != torch.float32 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return _sorted(x, needed)
    rows = zip(x.flatten(0, -2), needed.flatten(), strict=True)
    return torch.stack([_by_range(row, enough) for row, enough in rows]).view(x.shape)


def first_places(place: Tensor, number: Tensor) -> Bool[Tensor, "*g p"]:
    """Flags of the first so many places of a ranking."""
    taken = torch.arange(place.shape[-1], device=place.device) < number
    return torch.zeros_like(place, dtype=torch.bool).scatter(-1, place, taken)


def _sorted(x: Tensor, needed: Tensor) -> Tensor:
    ranked, place = x.sort(dim=-1, descending=True, stable=True)
    short = (ranked.clamp(min=0).cumsum(-1, dtype=torch.float64) < needed).sum(-1, keepdim=True)
    return first_places(place, short + 1)


def _by_range(x: Float[Tensor, " p"], needed: Float[Tensor, ""]) -> Bool[Tensor, " p"]:
    """One row: the sum above a range takes the place of what was sorted before it."""
    counted = x.clamp(min=0)
    upper = counted.contiguous().view(torch.int32) >> HALF
    sums = upper.bincount(counted.double()).flip(0).cumsum(0)  # of a range and all above it, the highest first
    last = min(int((sums < needed).sum()), len(sums) - 1)
    above, lowest = (sums[last - 1] if last else sums.new_zeros(())), len(sums) - 1 - last
    within = (upper == lowest).nonzero()[:, 0]
    return (upper > lowest).index_put((within,), _sorted(x[within], needed.double() - above))
