"""Guidance away from a copy of the model in which the attention of a few heads is weakened (SoftPAG)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.headhunter.perturbations import KINDS, SCOPES, Kind, Scope
from saccade.papers.headhunter.weakened_heads import WeakenedHeads

Head = tuple[int, int]  # layer, head


@dataclass(frozen=True, kw_only=True)
class SoftPAG:
    """w (v - v_weak) is added to a prediction v; v_weak has weakened maps, A' = (1 - u) A + u P, in some heads.

    heads   (layer, head) pairs, counted from 0 over self- and joint attention in order of execution
    layers  layers of which all heads are weakened too
    kind    P: "identity" (PAG), "uniform" (UG), "query_mean" (SEG), "max" (MG); "temperature" softmax(log A / tau)
    u       how far, in [0, 1]; 0 is bitwise the host
    w       how strongly the model steers away; 0 is bitwise the host. Beside classifier-free guidance the two add up
    tau     of "temperature", above 0; 1 is bitwise the host
    scope   "image_block": an image query keeps its scores with all text; "image_rows": it loses these too; "all": text
            queries are weakened as well. Without text in the sequence all three are one
    where   sites and share of the steps
    Raises ValueError for options out of range.
    """

    heads: tuple[Head, ...] = ()
    layers: tuple[int, ...] = ()
    kind: Kind = "identity"
    u: float = 1.0
    w: float = 5.0
    tau: float = 1.0
    scope: Scope = "image_block"
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(u=self.u, w=self.w, tau=self.tau)
        _check_heads(self.heads, self.layers)
        if self.kind not in KINDS:
            raise ValueError(f"kind='{self.kind}' must be one of {KINDS}")
        if self.scope not in SCOPES:
            raise ValueError(f"scope='{self.scope}' must be one of {SCOPES}")
        if not 0 <= self.u <= 1:
            raise ValueError(f"u={self.u} must be in [0, 1], the share of the weak map")
        if not isfinite(self.w):
            raise ValueError(f"w={self.w} must be a finite number; 0 steers nothing")
        if not (self.tau > 0 and isfinite(self.tau)):
            raise ValueError(f"tau={self.tau} must be above 0; 1 leaves the map as it is")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; give heads=((layer, head), ...)")
        if "cross" in self.where.kinds:
            raise ValueError(
                "where.kinds holds 'cross', where no query has a key of its own; choose joint and self sites"
            )

    @property
    def name(self) -> str:
        return "softpag"

    @property
    def neutral(self) -> bool:
        """Whether nothing is weakened, or nothing steered."""
        same = self.kind == "temperature" and self.tau == 1
        return not (self.heads or self.layers) or self.u == 0 or self.w == 0 or same

    def weak_weight(self, clock: Clock) -> float:
        """w, within `where`'s share of the steps; 0 where nothing is weakened."""
        return 0.0 if self.neutral or not self.where.active(clock) else self.w

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if self.neutral or site.kind == "cross" or clock.branch in ("uncond", "weak"):
            return ()
        if not (self.where.covers(site) and self.where.active(clock)):
            return ()
        found = self.heads_of(site)
        if not found:
            return ()
        return (WeakenedHeads(heads=found, kind=self.kind, u=self.u, tau=self.tau, scope=self.scope),)

    def heads_of(self, site: Site) -> tuple[int, ...]:
        """The heads of a site that are weakened, rising."""
        if site.layer in self.layers:
            return tuple(range(site.heads))
        return tuple(sorted(head for layer, head in self.heads if layer == site.layer))

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Raises SelectorError for a layer or head the attached sites do not have."""
        there = {site.layer: site.heads for site in sites if site.kind != "cross" and self.where.covers(site)}
        wrong = [(layer, head) for layer, head in self.heads if not 0 <= head < there.get(layer, 0)]
        wrong += [(layer,) for layer in self.layers if layer not in there]
        if wrong:
            heads = sorted(set(there.values()))
            counted = f"layers {min(there)} to {max(there)}" if there else "no layers"
            raise SelectorError(
                f"'softpag' weakens {wrong[0]}, which is not attached; there are {counted} with "
                f"{' or '.join(map(str, heads)) or 'no'} heads each, both counted from 0"
            )


def _check_heads(heads: Sequence[Head], layers: Sequence[int]) -> None:
    for head in heads:
        if not (isinstance(head, tuple | list) and len(head) == 2 and all(isinstance(i, int) and i >= 0 for i in head)):
            raise ValueError(f"heads={heads!r} must be pairs (layer, head), both counted from 0; {head!r} is none")
    if any(not isinstance(layer, int) or layer < 0 for layer in layers):
        raise ValueError(f"layers={layers!r} must be layers counted from 0")
    named = [*map(tuple, heads), *((layer,) for layer in layers)]
    if twice := next((one for one in named if named.count(one) > 1), None):
        raise ValueError(f"{twice} is given twice; name every head once")
    if both := next((tuple(head) for head in heads if head[0] in layers), None):
        raise ValueError(f"head {both} lies in layer {both[0]}, all of whose heads are given by layers; drop one")
