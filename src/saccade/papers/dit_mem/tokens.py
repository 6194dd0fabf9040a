"""Memory as a value: tokens, each of which may stand for several equal ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MemoryTokens:
    """Tokens (b m d) of one prompt or of several, in the width of the transformer that reads them.

    counts  how many equal tokens each stands for; None: one. r of them weigh as one whose logit is log r higher.
    Raises ValueError for tokens of another shape, and for counts that are not as many or below 1.
    """

    tokens: Float[Tensor, "b m d"]
    counts: tuple[int, ...] | None = None
    log_counts: Float[Tensor, " m"] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.tokens.ndim != 3:
            raise ValueError(f"tokens of shape {tuple(self.tokens.shape)} must be (prompts, tokens, width)")
        if self.counts is None or set(self.counts) <= {1}:
            return
        if len(self.counts) != self.n or min(self.counts) < 1:
            raise ValueError(
                f"counts={self.counts} must be {self.n} numbers of at least 1, one for each token; leave out a token "
                "that stands for none"
            )
        logs = torch.tensor(self.counts, dtype=torch.float64).log()
        fine = torch.promote_types(self.tokens.dtype, torch.float32)
        object.__setattr__(self, "log_counts", logs.to(self.tokens.device, fine))

    @property
    def n(self) -> int:
        """Tokens that are attended to."""
        return self.tokens.shape[1]

    def expanded(self) -> Float[Tensor, "b k d"]:
        """Every equal token by itself."""
        if self.counts is None:
            return self.tokens
        return self.tokens.repeat_interleave(torch.tensor(self.counts, device=self.tokens.device), dim=1)

    def merged(self) -> "MemoryTokens":
        """Tokens that are the same to the last bit, in all prompts, as one. It waits for the device."""
        columns = self.tokens.detach().transpose(0, 1).flatten(1)
        _, group = torch.unique(columns, dim=0, return_inverse=True)
        counts: dict[int, int] = {}
        first: dict[int, int] = {}
        for place, (number, count) in enumerate(zip(group.tolist(), self.counts or (1,) * self.n, strict=True)):
            first.setdefault(number, place)
            counts[number] = counts.get(number, 0) + count
        return MemoryTokens(self.tokens[:, list(first.values())], tuple(counts[number] for number in first))

    @classmethod
    def joined(cls, parts: Sequence["MemoryTokens"]) -> Self:
        """One after the other, of the same prompts."""
        counts = [count for part in parts for count in part.counts or (1,) * part.n]
        return cls(torch.cat([part.tokens for part in parts], dim=1), tuple(counts))


class HeldMemory:
    """Memory that changes between forwards, as in training: what it holds when a forward begins is read by it."""

    def __init__(self, tokens: MemoryTokens | None = None) -> None:
        self.tokens = tokens

    @contextmanager
    def holding(self, tokens: MemoryTokens | Tensor | None) -> Iterator[Self]:
        """Hold `tokens` in every forward within."""
        before, self.tokens = self.tokens, as_memory(tokens)
        try:
            yield self
        finally:
            self.tokens = before


def as_memory(given: MemoryTokens | Tensor | None) -> MemoryTokens | None:
    """Plain tokens (b m d), or (m d) of one prompt, as memory."""
    if not isinstance(given, Tensor):
        return given
    return MemoryTokens(given if given.ndim != 2 else given[None])
