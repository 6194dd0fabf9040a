"""Weight of a call moved from sinks to the rest of the picture, in heads and queries that look at it; no map is formed.

Attention is linear in its values. So three more launches of the same call give all there is to know: with indicators of
the groups of keys as values their masses, with the sinks' and the clear image's values alone what these contribute:

    alpha' V = alpha V + take (freed / clear  sum over the clear image of alpha v  -  sum over the sinks of alpha v)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Partial, Parts, whole
from saccade.core.state import Memory
from saccade.ops import attend
from saccade.papers.visual_sink.dims import known_dims
from saccade.papers.visual_sink.seen_tokens import (
    ANCHOR,
    PLACE,
    SINKS,
    Images,
    Marked,
    SeenTokens,
    cached,
    image_tokens,
    kept_sinks,
    text_queries,
    widened,
)
from saccade.papers.visual_sink.sinks import find_sinks, highest_share, sink_values
from saccade.papers.visual_sink.weights import Compat, SinkMasses, gain_of, groups_of, image_centric


@dataclass(frozen=True, kw_only=True)
class MovedWeight(Mechanism):
    """Options as in `SinkRedistribution`."""

    needs: ClassVar[frozenset[str]] = frozenset({"host.stream"})
    puts: ClassVar[frozenset[str]] = frozenset({SINKS, PLACE, ANCHOR})
    acts_on: ClassVar = "output"
    more_pairs: ClassVar[float] = 3.0

    dims: tuple[int, ...] | None
    tau: float
    highest: float | None
    rho: float
    take: float
    least: float
    heads: str
    images: Images | None
    exclude: tuple[int, ...]
    compat: Compat | None

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """Raises ValueError where no token is a picture's."""
        if self.images is None and not layout_k.of("image"):
            raise ValueError(
                f"the tokens ({layout_k.describe()}) hold no picture; detach for texts alone, or give images=, the "
                "places of each row's image tokens"
            )

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        seen, out = self.seen(call, mem), parts.total
        masses = group_masses(call, seen.image, seen.sinks)
        chosen = self.chosen(masses, seen)
        clear, *_ = groups_of(seen.image, seen.sinks)
        gain = gain_of(masses, chosen)[..., None].to(out.dtype)
        moved = gain * contribution(call, clear) - contribution(call, seen.sinks)
        return whole(Partial(torch.where(chosen[..., None], out + self.take * moved, out), parts.lse))

    def seen(self, call: AttentionCall, mem: Memory) -> SeenTokens:
        """Pictures, sinks and queries of a call; sinks are kept for the tokens to come."""
        image, m = image_tokens(call, self.images), call.k.shape[2]
        sinks = widened(kept_sinks(call, self._found(call), mem), m)
        after = self.compat == "official"
        queries = text_queries(image, call.layout_q, call.layout_k, after)
        return SeenTokens(image, sinks & ~self._excluded(m, call.q.device), queries)

    def chosen(self, masses: SinkMasses, seen: SeenTokens) -> Bool[Tensor, "b h n"]:
        """Heads and queries whose weight moves."""
        queries = seen.queries[:, None]
        if self.heads == "all":
            there = (seen.image & seen.sinks).any(-1)[:, None, None]
            return queries & there & (masses.clear > 0)
        found = image_centric(masses, seen.image, seen.sinks, rho=self.rho, least=self.least, compat=self.compat)
        return found & queries

    def _found(self, call: AttentionCall) -> Marked:
        """Sinks among this forward's tokens; of one that is written, none."""
        x = call.host.stream
        if x.shape[1] == 1 and cached(call.layout_q, call.layout_k):
            return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        dims = known_dims(call.host.module.config) if self.dims is None else self.dims
        if self.highest is not None:
            return highest_share(sink_values(x, dims), self.highest)
        return find_sinks(x, dims, self.tau)

    def _excluded(self, m: int, device: torch.device) -> Bool[Tensor, " m"]:
        places = torch.arange(m, device=device)
        return torch.stack([places == place for place in (-1, *self.exclude)]).any(0)


def group_masses(call: AttentionCall, image: Marked, sinks: Marked) -> SinkMasses:
    """Sums of each row of attention over the groups of keys, in single precision at least."""
    groups = torch.stack(groups_of(image, sinks), dim=-1)[:, None]
    q, k = (x if x.dtype == torch.float64 else x.float() for x in (call.q, call.k))
    indicators = groups.to(q.dtype).expand(-1, k.shape[1], -1, -1).contiguous()
    return SinkMasses(*attend(call.replace(q=q, k=k, v=indicators, groups=None)).out.unbind(-1))


def contribution(call: AttentionCall, keys: Marked) -> Float[Tensor, "b h n d"]:
    """What some keys alone bring to the output: the sum of their values by the weights of all keys' softmax."""
    return attend(call.replace(v=call.v * keys[:, None, :, None], groups=None)).out
