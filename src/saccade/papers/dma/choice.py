"""How keys are chosen, as a value, and the map of what is kept under causal order and padding."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.papers.dma.selection import Compat, Select, as_map, check_choice, choose_keys


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How keys are chosen; what each option means is said at `selection.choose_keys`.

    causal   a query sees keys at or before its own place, counted from the end where keys outnumber queries
    Raises ValueError for options out of range.
    """

    window: int = 2048
    select: Select = "topk"
    block_size: int = 1
    causal: bool = True
    compat: Compat | None = None

    def __post_init__(self) -> None:
        check_choice(self.window, self.select, self.block_size, self.compat)

    @property
    def looking_ahead(self) -> "Choice":
        """The same without causal order."""
        return replace(self, causal=False)

    def of_all(self, m: int) -> "Choice":
        """The choice that keeps all of m keys that may be seen."""
        return Choice(window=m, causal=self.causal)

    @property
    def ranked(self) -> bool:
        """Whether a key has a lifetime: it is then known by two numbers."""
        return self.select == "topk" and self.block_size == 1 and self.causal

    def map(self, bias: Float[Tensor, "#b #g #n m"], n: int, mask: Tensor | None = None) -> Bool[Tensor, "#b #g #n m"]:
        """The keys kept by each of n queries; as many rows, heads and queries as differ.

        Where keys are no more than w all that may be seen are kept; "relu" chooses at any length.
        """
        m = bias.shape[3]
        seen = None if mask is None else as_map(mask, n, m)
        if self.causal and n > 1:
            order = torch.ones(n, m, dtype=torch.bool, device=bias.device).tril(m - n)[None, None]
            seen = order if seen is None else seen & order
        if self.select == "topk" and m <= self.window:
            return bias.new_ones(1, 1, 1, m, dtype=torch.bool) if seen is None else seen
        return choose_keys(
            bias, seen, window=self.window, select=self.select, block_size=self.block_size,
            grows=self.causal and self.compat is None, compat=self.compat,
        )  # fmt: skip
