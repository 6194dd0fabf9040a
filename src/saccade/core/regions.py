"""Tokens shared out among regions, and verdicts between regions: masks whose blocks are known without a search.

Such a mask may be made anew in every call. What depends on the partition alone is prepared once, and the verdicts are
read once: on a device that is one wait.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.inference import outside_inference


@dataclass(frozen=True, eq=False)
class Partition:
    """The region of each token: label (n), from 0 to count - 1; a region may have any size and lie anywhere.

    Keep it for as long as the tokens are the same: what kernels prepare is kept for this very object.
    """

    label: Int[Tensor, " n"]
    count: int

    @classmethod
    def of(cls, label: Int[Tensor, " n"]) -> "Partition":
        """From labels alone. Raises ValueError for one below 0: a partition leaves no token out."""
        if len(label) and int(label.min()) < 0:
            raise ValueError(f"label={int(label.min())} is below 0; number the regions from 0, each token in one")
        return cls(label, int(label.max()) + 1 if len(label) else 0)

    @property
    def n(self) -> int:
        """Number of tokens."""
        return len(self.label)

    @cached_property
    def sizes(self) -> Int[Tensor, " R"]:
        """Tokens of each region."""
        with outside_inference():
            return torch.bincount(self.label, minlength=self.count)


@dataclass(frozen=True, eq=False)
class Regions:
    """allow (b|1 h|1 R R): which region's queries see which region's keys; keys beyond the partition are open."""

    partition: Partition
    allow: Bool[Tensor, "b h R R"]

    def pairs(self, m: int) -> int:
        """Exact number of allowed pairs with m keys, over the batch rows and heads distinguished."""
        b, h = self.allow.shape[:2]
        return self._read[0] + b * h * self.partition.n * (m - self.partition.n)

    def empty_row(self, m: int) -> tuple[int, int, int] | None:
        """(batch, head, query) of the first query without a key, or None."""
        if m > self.partition.n or not self._read[1]:
            return None
        b, h, query = self._lone[:, :, self.partition.label].nonzero()[0]
        return int(b), int(h), int(query)

    @cached_property
    def _keys(self) -> Float[Tensor, "b h R"]:
        """Keys that each region's queries see; whole numbers, exact below 2^24."""
        return torch.where(self.allow, self.partition.sizes.float(), 0.0).sum(-1)

    @property
    def _lone(self) -> Bool[Tensor, "b h R"]:
        return (self._keys == 0) & (self.partition.sizes > 0)

    @cached_property
    def _read(self) -> tuple[int, int]:
        """Pairs allowed, and regions whose queries see nothing: read together."""
        pairs = (self._keys.double() * self.partition.sizes).sum()
        found = torch.stack((pairs, self._lone.sum().double())).cpu()
        return int(found[0]), int(found[1])
