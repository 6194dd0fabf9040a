"""Tokens in groups, any number of groups each, and verdicts between groups: as a mask of verdicts between regions.

Tokens of the same groups are one region, so there are as many regions as memberships that occur, and no n x n map.
"""

from jaxtyping import Bool
from torch import Tensor

from saccade.core.regions import Partition
from saccade.mechanisms.region_grid import RegionGrid


def by_groups(member: Bool[Tensor, "g n"], allow: Bool[Tensor, "g g"]) -> RegionGrid:
    """A pair passes if any group of its query sees any group of its key.

    Raises ValueError for a token of no group, which would see nothing.
    """
    if len(alone := (~member.any(0)).nonzero()):
        raise ValueError(f"token {int(alone[0])} is in no group and would see nothing; put every token in one")
    kinds, label = member.T.int().unique(dim=0, return_inverse=True)
    seen = kinds.float() @ allow.float() @ kinds.float().T > 0
    return RegionGrid(Partition(label, len(kinds)), seen[None, None])
