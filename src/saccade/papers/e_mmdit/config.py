"""Sizes and parts of E-MMDiT, and what they come to: tokens and pairs in each block."""

from dataclasses import dataclass

from saccade.models.architecture import check_config
from saccade.nn.attention import per_head
from saccade.nn.modulation import ModulationKind
from saccade.papers.e_mmdit.compression import Grid, check_grid, compressed
from saccade.papers.e_mmdit.subregions import ALTERNATING, FULL, Pattern, check_length, check_pattern


@dataclass(frozen=True, kw_only=True)
class EMMDiTConfig:
    """Sizes and parts; the defaults are the 512 px model.

    width, heads, patch, channels, modulation   as in `DiTConfig`
    groups       blocks before, at and after the compression
    patterns     (regions, run) of the attention, block after block in turn; `FULL` for full attention
    compress     the middle group works on a quarter and a sixteenth of the tokens
    reinforce    add the positions again after the middle group
    ratio        how much wider the feed-forwards are inside
    side         of the latent, in pixels; sets the scale of the positions, other sides are cut from the same table
    table        side of that table, in tokens
    words_width  channels of the words given
    time_scale   multiplies the time before its embedding
    Raises ValueError for options out of range.
    """

    groups: tuple[int, int, int] = (4, 16, 4)
    width: int = 768
    heads: int = 24
    ratio: float = 3.0
    patch: int = 1
    side: int = 16
    channels: int = 32
    words_width: int = 2048
    patterns: tuple[Pattern, ...] = ALTERNATING
    compress: bool = True
    reinforce: bool = True
    modulation: ModulationKind = "affine"
    table: int = 96
    time_scale: float = 1000.0

    def __post_init__(self) -> None:
        check_config(self, width=1, heads=1, patch=1, side=1, channels=1, words_width=1, table=1)
        per_head(self.width, self.heads)
        if len(self.groups) != 3 or min(self.groups) < 1:
            raise ValueError(f"groups={self.groups} must be three numbers of blocks, each at least 1")
        if not self.patterns:
            raise ValueError("patterns=() names no (regions, run); give ((1, 1),) for full attention")
        for pattern in self.patterns:
            check_pattern(*pattern)
        if self.side % self.patch:
            raise ValueError(f"side={self.side} must be a multiple of patch={self.patch}")
        self.check_grid(self.grid)

    @property
    def grid(self) -> Grid:
        """Tokens of a latent of `side`."""
        return self.side // self.patch, self.side // self.patch

    def pattern(self, block: int) -> Pattern:
        """(regions, run) of a block, counted over the whole network."""
        return self.patterns[block % len(self.patterns)]

    def tokens(self, grid: Grid) -> tuple[int, ...]:
        """Picture tokens in each block."""
        whole = grid[0] * grid[1]
        first, middle, last = self.groups
        return (whole,) * first + (compressed(grid) if self.compress else whole,) * middle + (whole,) * last

    def pairs(self, words: int = 128, grid: Grid | None = None) -> int:
        """Query-key pairs of one head, summed over the blocks, picture and words together."""
        counts = enumerate(self.tokens(grid or self.grid))
        return sum((tokens + words) ** 2 // self.pattern(i)[0] for i, tokens in counts)

    def check_grid(self, grid: Grid) -> None:
        """Raise ValueError for a grid of tokens that cannot be compressed, grouped or placed."""
        if self.compress:
            check_grid(grid)
        if max(grid) > self.table:
            raise ValueError(f"grid={grid} exceeds the table of positions, {self.table} x {self.table}; enlarge table")
        for block, tokens in enumerate(self.tokens(grid)):
            check_length(tokens, *self.pattern(block), what=f"tokens of grid={grid} in block {block}")

    def check_words(self, words: int) -> None:
        """Raise ValueError for a number of words that cannot be grouped; patterns of the largest cells first."""
        for pattern in sorted(self.patterns, key=lambda pair: -pair[0] * pair[1]):
            check_length(words, *pattern, what="words")


SIZES = {
    "512px": EMMDiTConfig(),
    "1024px": EMMDiTConfig(side=32, patterns=FULL),
    "tiny": EMMDiTConfig(groups=(1, 4, 1), width=96, heads=3, patch=2, side=32, channels=3, words_width=96),
}
