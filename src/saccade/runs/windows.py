"""Overlapping windows in time over one long latent: where they lie, what each is conditioned on, how they are weighted.

    S = n + b (n - 1) + m (n - 2)      windows; the last term for three prompts and more
    F = L + (S - 1) (L - O)            latent frames

Prompt i has one window, 1 + m between the first and the last; b windows lead over to the next prompt, the j-th with
(1 - j / (b + 1)) E(i) + j / (b + 1) E(i + 1).

Source: Cai et al., "DiTCtrl" (2024), which blends predictions of windows with triangular weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.checks import check_whole

Mix = tuple[int, int, float]  # a prompt, the next one, and how much of the next
ByPrompt = Float[Tensor, "n ..."] | Bool[Tensor, "n ..."]
ByWindow = Float[Tensor, "S ..."] | Bool[Tensor, "S ..."]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows over a video of several prompts.

    prompts      n
    tile         L, latent frames of a window
    overlap      O, latent frames it shares with the next one; 0 sets them side by side
    transitions  b, windows between two prompts; 0 changes prompts at once
    extra        m, further windows of each prompt that is neither the first nor the last
    Raises ValueError for options out of range.
    """

    prompts: int
    tile: int = 13
    overlap: int = 6
    transitions: int = 1
    extra: int = 0

    def __post_init__(self) -> None:
        check_whole(1, prompts=self.prompts, tile=self.tile)
        check_whole(0, overlap=self.overlap, transitions=self.transitions, extra=self.extra)
        if self.overlap >= self.tile:
            raise ValueError(
                f"overlap={self.overlap} must be below tile={self.tile}, or no window would move on from the last"
            )

    @property
    def count(self) -> int:
        """S, the number of windows."""
        return len(self.mixes)

    @property
    def stride(self) -> int:
        """Frames from the start of a window to the start of the next."""
        return self.tile - self.overlap

    @property
    def frames(self) -> int:
        """F, latent frames of the whole video."""
        return self.tile + (self.count - 1) * self.stride

    @property
    def mixes(self) -> tuple[Mix, ...]:
        """What each window is conditioned on, in order."""
        found: list[Mix] = []
        for i in range(self.prompts):
            inner = 0 < i < self.prompts - 1
            found += [(i, i, 0.0)] * (1 + inner * self.extra)
            if i + 1 < self.prompts:
                found += [(i, i + 1, j / (self.transitions + 1)) for j in range(1, self.transitions + 1)]
        return tuple(found)

    def span(self, window: int) -> slice:
        """The frames of a window."""
        return slice(window * self.stride, window * self.stride + self.tile)

    def conditions(self, embeddings: ByPrompt) -> ByWindow:
        """Embeddings of all windows, mixed from one for each prompt; a mask of tokens holds those of either prompt.

        Raises ValueError for another number of them.
        """
        self._check(embeddings)
        return torch.stack([_mixed(embeddings[i], embeddings[j], share) for i, j, share in self.mixes])

    def unconditions(self, embeddings: ByPrompt) -> ByWindow:
        """Unconditional embeddings of all windows, never mixed: those of the prompt that weighs more, or of the next.

        Raises ValueError for another number of them.
        """
        self._check(embeddings)
        return torch.stack([embeddings[i if share < 0.5 else j] for i, j, share in self.mixes])

    def shares(self) -> Float[Tensor, "F n"]:
        """How much of each frame is each prompt's: weights of its windows times what they take of the prompt."""
        found = torch.zeros(self.frames, self.prompts)
        for window, (i, j, share) in enumerate(self.mixes):
            found[self.span(window), i] += triangle(self.tile) * (1 - share)
            found[self.span(window), j] += triangle(self.tile) * share
        return found / found.sum(1, keepdim=True)

    def segments(self) -> tuple[slice, ...]:
        """The frames of which each prompt has the largest share, one run after the other."""
        first = [int((self.shares().argmax(1) < i).sum()) for i in range(self.prompts + 1)]
        return tuple(slice(a, b) for a, b in pairwise(first))

    def _check(self, embeddings: Tensor) -> None:
        if len(embeddings) != self.prompts:
            raise ValueError(f"embeddings are for {len(embeddings)} prompts, the windows for {self.prompts}")


def triangle(tile: int) -> Float[Tensor, " {tile}"]:
    """Weights of a window's frames: above 0, symmetric, highest in the middle, where they are 1 for odd tiles."""
    rising = (torch.arange(tile) + 0.5) * 2 / tile
    return torch.minimum(rising, rising.flip(0))


def pairs(windows: Windows) -> tuple[tuple[int, ...], ...]:
    """Each window with the next one, as source and target."""
    return tuple(pairwise(range(windows.count)))


def singles(windows: Windows) -> tuple[tuple[int, ...], ...]:
    """Each window by itself."""
    return tuple((window,) for window in range(windows.count))


def visit_shares(windows: Windows, visits: Sequence[Sequence[int]]) -> Float[Tensor, "v {windows.tile}"]:
    """The share that each visit of a window has in its frames; shares of one frame sum to one.

    Raises ValueError where a frame is never visited.
    """
    seen, weight = [window for visit in visits for window in visit], triangle(windows.tile)
    total = torch.zeros(windows.frames)
    for window in seen:
        total[windows.span(window)] += weight
    if not bool(total.all()):
        raise ValueError(f"visits={tuple(map(tuple, visits))} leave frame {int(total.argmin())} of {windows} out")
    return torch.stack([weight / total[windows.span(window)] for window in seen])


def _mixed(one: Tensor, other: Tensor, share: float) -> Tensor:
    if one.dtype == torch.bool:
        return one | other if share else one
    return one if share == 0 else (1 - share) * one + share * other
