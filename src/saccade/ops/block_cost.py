"""What a block-sparse kernel takes for the blocks of one size, so that sizes can be compared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BlockCost:
    """Time per computed pair as a multiple of the best dense kernel's, for blocks of `size` (queries, keys).

    full   of blocks in which every pair is allowed
    mixed  of blocks with a token map, in the same unit, so that it is at least `full`
    """

    size: tuple[int, int]
    full: float
    mixed: float
