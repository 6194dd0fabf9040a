"""Where a picture shows a word: attention of its tokens to the word's, averaged over a whole generation.

    with attach(pipe, words := WordMap(tokens={"circle": (4,)})) as run:
        pipe("a large red circle")
        where = edit_mask(words.heat(run.state)["circle"])

Reading changes nothing: the output is bitwise that of the same kernel without it. Hosts that hear the text by
cross-attention (Wan, PixArt) are attached with `where=at(kind="cross")`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import PlanItem
from saccade.core.rows import Role
from saccade.core.site import Site, Where
from saccade.core.state import MemoryBank
from saccade.mechanisms.key_columns import KeyColumns, Over
from saccade.mechanisms.mutual_columns import MutualColumns

HEARING = Where(kinds=("joint", "cross"), stage="last")  # sites with text among their keys
EPSILON = 1e-6
Positions = Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class WordMap:
    """Watch words.

    tokens   for each word its positions within the text, the same for all samples or a sequence for each
    over     the keys whose shares add up to one: "all keys", or "text keys" as the official code has it for CogVideoX
    mutual   count what words pay to the image as well, half and half, by the operands the host gave before any system
             changed them; mean over a word's tokens instead of the sum
    role     with `mutual` the rows that are watched, as "target"
    label    its name in reports and state; two maps watched at once need two
    where    sites and share of the steps; by default the sites with text in the model's last stack of blocks
    Raises ValueError for options out of range.
    """

    tokens: Mapping[str, Positions]
    over: Over = "all keys"
    mutual: bool = False
    role: Role | None = None
    label: str = "word_map"
    where: Where = HEARING

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("tokens={} names no word to watch; give positions, as tokens={'circle': (4,)}")
        if self.mutual and self.over != "all keys" or self.role and not self.mutual:
            raise ValueError("over='text keys' is for mutual=False, and role= for mutual=True; leave one of them out")
        _ = self._columns

    @property
    def name(self) -> str:
        return self.label

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        heard = site.kind != "self" and clock.branch in ("main", "cond")
        return (self._columns,) if heard and self.where.covers(site) and self.where.active(clock) else ()

    def heat(self, state: MemoryBank) -> dict[str, Float[Tensor, "s t h w"]]:
        """The mean over all sites and steps so far of a run's state (`run.state`, before it detaches), by word.

        Raises StateError where no site has watched yet.
        """
        found = [m for (system, _, _), m in state.memories.items() if system == self.name and m.holds("sum")]
        if not found:
            raise StateError("no site has watched the words yet; run the pipeline first, and read before detaching")
        total, count = (torch.stack([m.last(key) for m in found]).sum(0) for key in ("sum", "count"))
        return dict(zip(self.tokens, total / count, strict=True))

    @cached_property
    def _columns(self) -> KeyColumns | MutualColumns:
        tokens = token_table(self.tokens)
        return (
            MutualColumns(tokens=tokens, role=self.role) if self.mutual else KeyColumns(tokens=tokens, over=self.over)
        )


def edit_mask(heat: Float[Tensor, "*s h w"], threshold: float = 0.1) -> Bool[Tensor, "*s h w"]:
    """Where a map, stretched to [0, 1] in each frame, exceeds `threshold`.

    Raises ValueError for a threshold outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold} must be in [0, 1), a share of the frame's highest value")
    low, high = heat.amin((-2, -1), keepdim=True), heat.amax((-2, -1), keepdim=True)
    return (heat - low) / (high - low + EPSILON) > threshold


def smoothed(heat: Float[Tensor, "*s h w"], side: int) -> Float[Tensor, "*s h w"]:
    """Means over squares of `side` tokens, an odd number; beyond the border the nearest tokens count again."""
    flat = heat.reshape(-1, 1, *heat.shape[-2:])
    wide = F.pad(flat, (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(wide, side, stride=1).view(heat.shape)


def token_table(tokens: Mapping[str, Positions]) -> Int[Tensor, "w s c"]:
    """All positions as one table, short rows filled up with -1.

    Raises ValueError for positions below 0, none at all, or of another number of samples.
    """
    by_word = [_by_sample(word, positions) for word, positions in tokens.items()]
    samples, longest = max(map(len, by_word)), max(len(row) for rows in by_word for row in rows)
    for word, rows in zip(tokens, by_word, strict=True):
        if len(rows) not in (1, samples):
            raise ValueError(f"tokens['{word}'] are for {len(rows)} samples, others for {samples}; give all as many")
    filled = [[[*row, *[-1] * (longest - len(row))] for row in rows] for rows in by_word]
    return torch.tensor([rows * (samples if len(rows) == 1 else 1) for rows in filled])


def _by_sample(word: str, positions: Positions) -> list[list[int]]:
    rows = [[p] if isinstance(p, int) else list(p) for p in positions]
    rows = [sum(rows, [])] if all(isinstance(p, int) for p in positions) else rows
    if not rows or not all(rows) or any(p < 0 for row in rows for p in row):
        raise ValueError(f"tokens['{word}']={positions} must be positions within the text, 0 or above, at least one")
    return rows
