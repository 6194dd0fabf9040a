"""The one call that every token mixer and feed-forward answers: `part(x, place) -> MixerOutput`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.nn.memory import Memory

Losses = dict[str, Tensor]


class AttentionTrace(NamedTuple):
    """What an attention saw and gave, by head, with the scale e**-0.5; `projection` joins the heads' outputs."""

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h n e"]
    v: Float[Tensor, "b h n e"]
    out: Float[Tensor, "b h n e"]
    projection: nn.Linear | None = None


@dataclass(frozen=True, kw_only=True)
class TokenPositions:
    """Where tokens stand.

    `grid`     (h, w) or (t, h, w), row-major over the n tokens; empty for a sequence
    `keep`     true at tokens that are there, None where all are
    `causal`   whether a token may only look back
    `lengths`  of the sequences packed one after the other into a batch of one; None: every row is one sequence
    `places`   coordinates of tokens that fill no grid; None: those of the grid, or of a plain sequence
    `seen`     for a feed-forward: what the mixer of its block saw, if that mixer return_trace
    `memory`   what this mixer kept of the tokens before, which the mixer extends; None: there were none
    """

    grid: tuple[int, ...] = ()
    keep: Bool[Tensor, "b n"] | None = None
    causal: bool = False
    lengths: tuple[int, ...] | None = None
    places: Float[Tensor, "n axes"] | None = None
    seen: AttentionTrace | None = None
    memory: Memory | None = None

    @property
    def before(self) -> int:
        """How many tokens came before the first of these."""
        return 0 if self.memory is None else self.memory.tokens


class MixerOutput(NamedTuple):
    """A part's output, with its auxiliary losses: 0-d, weighted, to be added to the objective in training."""

    out: Float[Tensor, "b n d"]
    losses: Losses
    seen: AttentionTrace | None = None


def added(losses: Iterable[Mapping[str, Tensor]]) -> Losses:
    """Losses summed by name."""
    total: Losses = {}
    for each in losses:
        for name, value in each.items():
            total[name] = total[name] + value if name in total else value
    return total


def sides(place: TokenPositions, tokens: int, name: str) -> tuple[int, int]:
    """(h, w) of a place whose tokens lie on a picture's grid.

    Raises ValueError naming the part where they do not, or where the grid holds another number of tokens.
    """
    if len(place.grid) != 2 or place.grid[0] * place.grid[1] != tokens:
        raise ValueError(f"{name} needs a grid (h, w) of {tokens} tokens; place.grid={place.grid}")
    return place.grid[0], place.grid[1]


def to_map(x: Float[Tensor, "b n c"], grid: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Tokens as a feature map."""
    return x.mT.unflatten(-1, grid)


def to_tokens(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """A feature map as tokens, row-major."""
    return x.flatten(2).mT
