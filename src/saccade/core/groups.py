"""Key groups: a label per key; disjoint, and covering because every key has one."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KeyGroups:
    """`label` (b|1, m) numbers each key's group in 0..count-1.

    Raises ValueError for options out of range.
    """

    label: Int[Tensor, "#b m"]
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count} must be at least 1")
