"""What some image tokens are good for: their weight taken from the text's queries, and what each key brings."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.checks import check_whole
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Partial, Parts, whole
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.state import Memory
from saccade.papers.visual_sink.dims import FIRST
from saccade.papers.visual_sink.moved_weight import contribution, group_masses
from saccade.papers.visual_sink.seen_tokens import Images, Marked, image_tokens, text_queries

Map = Float[Tensor, "b h n m"]


def knocked_out(
    alpha: Map, keys: Bool[Tensor, "#b m"], queries: Bool[Tensor, "#b n"], renormalise: bool = False
) -> Map:
    """A map in which these queries give these keys no weight; the rest stays, or is scaled to sum to one.

    A query that would be left without weight gives none at all where nothing is scaled, and stays as it was otherwise.
    """
    cut = alpha.masked_fill((queries[:, None, :, None] & keys[:, None, None]), 0)
    if not renormalise:
        return cut
    left = cut.sum(-1, keepdim=True)
    scaled = torch.where(queries[:, None, :, None] & (left > 0), cut / torch.where(left > 0, left, 1), alpha)
    return scaled


def contributions(alpha: Map, v: Float[Tensor, "b h m d"], out: Float[Tensor, "c hd"]) -> Float[Tensor, "b n m"]:
    """Length of what key j brings to query i, |alpha_ij v_j W_O|, mean over heads.

    v    values, x_j W_V, repeated where heads share them
    out  the weight of the projection after attention, as `nn.Linear` has it
    """
    by_head = out.unflatten(1, (v.shape[1], -1))
    lengths = torch.einsum("bhmd,chd->bhmc", v, by_head).norm(dim=-1)
    return (alpha * lengths[:, :, None]).mean(1)


def share_inside(sinks: Bool[Tensor, "b n"], region: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Share of all marked tokens that lie in a region, as the background; not a number where none is marked."""
    return (sinks & region).sum() / sinks.sum()


@dataclass(frozen=True, kw_only=True)
class Knockout:
    """The text's queries give chosen tokens no weight.

    tokens       places of each row's tokens, or one row's for all
    renormalise  scale the weight that is left to one, as -inf before the softmax does
    images       places of each row's image tokens; None: where the host has them
    where        sites; the first two layers are never changed
    Raises ValueError for options out of range.
    """

    tokens: Images
    renormalise: bool = False
    images: Images | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("tokens=() names no row; give a tuple of places for each row, or one for all")
        for place in (place for row in (*self.tokens, *(self.images or ())) for place in row):
            check_whole(0, tokens=place)

    @property
    def name(self) -> str:
        return "knockout"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or site.layer < FIRST or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return (KnockedOut(tokens=self.tokens, renormalise=self.renormalise, images=self.images),)


@dataclass(frozen=True, kw_only=True)
class KnockedOut(Mechanism):
    """Options as in `Knockout`."""

    acts_on: ClassVar = "output"
    more_pairs: ClassVar[float] = 2.0

    tokens: Images
    renormalise: bool
    images: Images | None

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        keys, image = image_tokens(call, self.tokens), image_tokens(call, self.images)
        out = parts.total
        cut = out - contribution(call, keys)
        if self.renormalise:
            left = 1 - _mass(call, keys)
            cut = torch.where(left > 0, cut / torch.where(left > 0, left, 1).to(cut.dtype), out)
        queries = text_queries(image, call.layout_q, call.layout_k, after=False)[:, None, :, None]
        return whole(Partial(torch.where(queries, cut, out), parts.lse))


def _mass(call: AttentionCall, keys: Marked) -> Float[Tensor, "b h n 1"]:
    return group_masses(call, keys, torch.zeros_like(keys)).clear[..., None]
