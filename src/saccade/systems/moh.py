"""Let every token use some of a layer's heads (MoH).

h_s -> shared, K -> routed      as shares of a layer's heads; counts in `nn.head_routing.HeadCounts`
W_r, W_s, W_h -> router, shared_router, side_router      in `nn.head_routing.LearnedGates`; their gates have mean one
L_b, beta -> `head_balance`, `MixtureOfHeads.balance`    returned from forward, never kept on a class
quantised routing -> norm       of the query, with a straight-through gradient
A model of one's own: `saccade.models.MoHDiT`, `upcycle`, the mixer "moh(...)". Here: models that are there already.
Differs: see PAPER.deviations.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.registry import GRID_HOSTS, TEXT_HOSTS, Paper, system
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.mechanisms.head_gates import InputGates, QueryGates
from saccade.nn.head_routing import HeadCounts, NormGates, head_balance
from saccade.nn.site_gates import SiteGates

__all__ = ["PAPER", "MoH", "SiteGates", "head_balance"]

PAPER = Paper(
    title="MoH: Multi-Head Attention as Mixture-of-Head Attention",
    year=2025,
    arxiv="2410.11842",
    bibtex="""@inproceedings{jin2025moh,
  title     = {{MoH}: Multi-Head Attention as Mixture-of-Head Attention},
  author    = {Jin, Peng and Zhu, Bo and Yuan, Li and Yan, Shuicheng},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}""",
    claims=(
        "ViT-B with 75 % and 50 % of the heads: top-1 84.9 and 84.7, TransNeXt-B 84.8",
        "DiT-XL/2 after 7M steps with 90 % of the heads: FID 9.62 -> 8.56; with guidance 3.22 -> 2.94",
        "LLaMA3-8B tuned on with 75 % of the heads: mean of 14 tasks 61.6 -> 64.0, over 95 % back within 10B tokens",
    ),
    deviations=(
        "gates have mean one, as in the released code; the printed formula lacks the factors h_s, K and 2",
        "equal logits give gates of exactly one, since each softmax is taken over the picks alone",
        "one shared head beside routed ones works; the released class has no weight for it",
        "the loss of balance is returned, leaves padding out, and works with several models and checkpointing",
        "norm routing works for any split, one candidate included; its straight-through gradient is ours, the training "
        "code being unreleased",
        "attached, q is taken after rotation, which keeps norms; where a host normalises q, as FLUX and Qwen3 do, "
        "norms hardly differ and the picks say little",
        "attached, all heads are computed and nothing is saved; `execution='gathered'` of the mixer saves queries",
        "the vision transformers are a table of head counts; TransNeXt is not built",
    ),
)


@system("moh", paper=PAPER, kind="mixture of heads", seam="call", hosts=(*GRID_HOSTS, *TEXT_HOSTS))
@dataclass(frozen=True, kw_only=True)
class MoH:
    """Let every token use some of a layer's heads: the first ones, and of the others those of the longest queries.

    shared   share of a layer's heads that all tokens use, rounded to at least one where it is not 0
    routed   share that each token picks, likewise
    gates    routers to train, made by `trainable`, which pick instead; without them gates are one and zero
    where    sites and share of the steps; cross-attention is never touched
    By norm a layer whose heads all act is bitwise the host.
    """

    shared: float = 0.5
    routed: float = 0.25
    gates: SiteGates | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        if not (0 <= self.shared < 1 and self.routed > 0 and self.shared + self.routed <= 1):
            raise ValueError(
                f"shared={self.shared} and routed={self.routed} must be shares of the heads that add up to at most 1, "
                "and routed must be above 0"
            )
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} has no meaning here; choose by shared and routed")

    @property
    def name(self) -> str:
        return "moh"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        if self.gates is not None:
            rest, text = self.gates.at(site)
            return (InputGates(rest=rest, text=text),)
        if site.heads == 1 or (counts := self.counts(site.heads)).active == site.heads:
            return ()
        return (_by_norm(counts),)

    def counts(self, heads: int) -> HeadCounts:
        """The heads of a layer of `heads`."""
        shared = min(_some(self.shared, heads), heads - 1)
        return HeadCounts(heads=heads, shared=shared, routed=min(_some(self.routed, heads), heads - shared))

    def trainable(self, sites: Iterable[Site], width: int, *, std: float = 0.02) -> "MoH":
        """The same with routers for each site: `moh.gates.parameters()` are yours to train.

        sites   those of a run, `run.sites`; width   channels of what enters the attention; std   of the first weights
        """
        counts = {site: self.counts(site.heads) for site in sites if site.kind != "cross"}
        return replace(self, gates=SiteGates(counts, width, std=std))


def _some(share: float, heads: int) -> int:
    return max(1, round(share * heads)) if share else 0


@lru_cache(maxsize=64)
def _by_norm(counts: HeadCounts) -> Mechanism:
    """One for equal counts, so that equal phases have equal plans."""
    return QueryGates(gating=NormGates(counts))
