"""From when until when a key is kept, where its score is the same for all queries and order is causal.

A key that w better ones have outlived is never among the w best again, since what a query sees only grows. So key j is
kept by queries j <= i < until_j and by no others: two numbers a key hold the whole map, a query block reads at most
w + its own length keys, and a cache may forget what was dropped.

Found block by block of queries: the w best before it and its own keys are compared with its own keys, O(n (w + block)).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK = 64
ABSENT = -1
Keys = tuple[Tensor, Tensor]  # places (b g c), ABSENT where there is none, and scores


@dataclass(frozen=True, eq=False, kw_only=True)
class Lifetimes:
    """Which queries keep which keys.

    until   the place of the first query that has dropped a key; m where none has; 0 for keys that are padded
    alive   the keys kept just before each block of queries, ABSENT where there are fewer than w
    ahead   keys before the first query's own
    block   queries of a block
    keep    keys that are not padded; None where none is
    """

    until: Int[Tensor, "b g m"]
    alive: Int[Tensor, "b g t w"]
    ahead: int
    block: int
    keep: Bool[Tensor, "#b #g m"] | None = None

    def keeps(self, keys: Int[Tensor, "b g *k"], queries: Int[Tensor, "*#q"]) -> Bool[Tensor, "b g *#p"]:
        """Whether queries, by their places among the keys, keep keys; both broadcast after the first two dimensions."""
        until = self.until.gather(2, keys.clamp(min=0).flatten(2)).view(keys.shape)
        return (keys >= 0) & (keys <= queries) & (queries < until)

    def to_map(self) -> Bool[Tensor, "b g n m"]:
        """All pairs at once: n x m memory."""
        m = self.until.shape[2]
        keys = torch.arange(m, device=self.until.device)
        queries = keys[self.ahead :, None]
        return (keys <= queries) & (queries < self.until[:, :, None])

    def candidates(self) -> Int[Tensor, "b g t c"]:
        """All keys that a block of queries reads, ABSENT where there are fewer."""
        m, device = self.until.shape[2], self.until.device
        own = torch.arange(self.ahead, self.ahead + self.alive.shape[2] * self.block, device=device)
        own = torch.where(own < m, own, ABSENT).view(-1, self.block)
        return torch.cat((self.alive, own.expand(*self.alive.shape[:2], -1, -1)), dim=-1)


@torch.no_grad()
def key_lifetimes(
    bias: Float[Tensor, "b g m"],
    window: int,
    *,
    queries: int | None = None,
    keep: Bool[Tensor, "#b #g m"] | None = None,
    block: int = BLOCK,
) -> Lifetimes:
    """Lifetimes of all keys, of which the last `queries` ask themselves; None: all of them.

    keep   keys that are not padded
    Memory: w numbers for each block of queries.
    """
    m, window = bias.shape[2], min(window, bias.shape[2])
    ahead = m - (m if queries is None else queries)
    places = torch.arange(m, device=bias.device).expand(bias.shape)
    if keep is not None:
        places = places.where(keep, ABSENT)
    scores = bias.masked_fill(places < 0, -torch.inf)
    best = _ranked(places[..., :ahead].flip(-1), scores[..., :ahead].flip(-1), window)
    until = scores.new_zeros(*bias.shape[:2], m + 1, dtype=torch.int64)  # one more, for the absent
    until.scatter_(2, _or_last(best[0], m), m)
    alive = []
    for start in range(ahead, m, block):
        alive.append(best[0])
        own = places[..., start : start + block], scores[..., start : start + block]
        pool = _beside(own, best)
        until.scatter_(2, _or_last(pool[0], m), _ends(own, best, pool, start, m))
        best = _ranked(*pool, window)
    return Lifetimes(until=until[..., :m], alive=torch.stack(alive, dim=2), ahead=ahead, block=block, keep=keep)


def _ranked(keys: Int[Tensor, "b g c"], scores: Float[Tensor, "b g c"], window: int) -> Keys:
    """The `window` highest, the highest first; of equal ones those that come first."""
    short = max(window - keys.shape[-1], 0)
    keys = torch.nn.functional.pad(keys, (0, short), value=ABSENT)
    scores = torch.nn.functional.pad(scores, (0, short), value=-torch.inf)
    ranked, order = scores.sort(dim=-1, descending=True, stable=True)
    return keys.gather(-1, order[..., :window]), ranked[..., :window]


def _beside(own: Keys, best: Keys) -> Keys:
    """A block's own keys, the last one first, and the best before it: equal scores in the order of preference."""
    keys, scores = (torch.cat((x.flip(-1), y), dim=-1) for x, y in zip(own, best, strict=True))
    return keys, scores


def _ends(own: Keys, best: Keys, pool: Keys, start: int, m: int) -> Int[Tensor, "b g c"]:
    """The place of the first query of the block by which as many keys as are kept beat one of the pool; m for none."""
    (keys, scores), window, size = own, best[0].shape[-1], own[0].shape[-1]
    higher = (best[1][:, :, None] > scores.flip(-1)[..., None]).sum(-1)
    before = torch.cat((higher, torch.arange(window, device=keys.device).expand_as(best[0])), dim=-1)
    level = (scores[:, :, None] == pool[1][..., None]) & (keys[:, :, None] > pool[0][..., None])
    beats = (level | (scores[:, :, None] > pool[1][..., None])) & (keys[:, :, None] >= 0)
    steps = (before[..., None] + beats.cumsum(-1) < window).sum(-1)
    return (start + steps).where(steps < size, m)


def _or_last(keys: Int[Tensor, "b g c"], m: int) -> Int[Tensor, "b g c"]:
    """Where a key's number stands; that of absent ones past the end."""
    return keys.where(keys >= 0, m)
