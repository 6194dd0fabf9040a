"""Weight of attention sinks given back to the rest of the picture, while a model answers questions about it (VAR)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from saccade.core.checks import check_numbers, check_whole, check_word
from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.visual_sink.dims import FIRST
from saccade.papers.visual_sink.moved_weight import MovedWeight
from saccade.papers.visual_sink.seen_tokens import Images
from saccade.papers.visual_sink.sinks import check_dims, check_tau
from saccade.papers.visual_sink.weights import Compat, check_take

Heads = Literal["image_centric", "all"]


@dataclass(frozen=True, kw_only=True)
class SinkRedistribution:
    """In heads that look at the picture, `take` of the weight of all sinks goes to the image tokens that are none.

    dims     channels in which sinks are massive; None: those known of the model, see `find_sink_dims` for others
    tau      sink values above it make a sink
    highest  in the place of tau: this share of a forward's tokens, those with the highest values, for small models
    rho      least share of a head's weight on the picture that lies on no sink, in [0, 1]: .8 for questions in general,
             .5 against hallucination, .9 for what is seen in detail; 1 - rho of the released code
    take     share of its weight a sink gives, in [0, 1]; p of the paper, 1 - p of the released code. 0 is bitwise the
             host
    least    least weight of the picture, in [0, 1]
    heads    "all" leaves out the choice of heads, to see what it is for
    images   places of each row's image tokens in the sequence, or one row's for all; None: where the host has them
    exclude  places never taken for sinks, as what a question points at
    compat   "official" changes the last layer too, only queries after the whole picture, and adds 1e-6 for each image
             token where it takes the share
    where    sites; the first two layers and the last are never changed
    Raises ValueError for options out of range.
    """

    dims: tuple[int, ...] | None = None
    tau: float = 20.0
    highest: float | None = None
    rho: float = 0.8
    take: float = 0.4
    least: float = 0.2
    heads: Heads = "image_centric"
    images: Images | None = None
    exclude: tuple[int, ...] = ()
    compat: Compat | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(tau=self.tau, rho=self.rho, take=self.take, least=self.least, highest=self.highest)
        if self.dims is not None:
            check_dims(self.dims)
        check_tau(self.tau)
        check_take(self.take)
        for name, value in (("rho", self.rho), ("least", self.least)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must be in [0, 1], a share of the weight")
        if self.highest is not None and not 0 < self.highest < 1:
            raise ValueError(f"highest={self.highest} must be in (0, 1), a share of the tokens; None goes by tau")
        check_word(get_args(Heads), heads=self.heads)
        if self.compat not in (None, "official"):
            raise ValueError(f"compat='{self.compat}' must be 'official' or None")
        self._check_places()
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @property
    def name(self) -> str:
        return "visual_sink"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if self.take == 0 or site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return (self._moved,) if self.acts_at(site) else ()

    def acts_at(self, site: Site) -> bool:
        """Whether a layer is neither of the first two nor the last, which the released code changes."""
        return FIRST <= site.layer < site.layers - (self.compat is None)

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Raises SelectorError where no attached layer would ever be changed."""
        if not any(self.acts_at(site) for site in sites):
            raise SelectorError(
                f"'visual_sink' leaves the first two layers and the last alone, and of the {len(sites)} attached sites "
                "none lies between; attach a deeper model, or other sites"
            )

    @cached_property
    def _moved(self) -> MovedWeight:
        return MovedWeight(
            dims=self.dims, tau=self.tau, highest=self.highest, rho=self.rho, take=self.take, least=self.least,
            heads=self.heads, images=self.images, exclude=self.exclude, compat=self.compat,
        )  # fmt: skip

    def _check_places(self) -> None:
        for row in () if self.images is None else self.images:
            if not isinstance(row, tuple) or not row:
                raise ValueError(f"images={self.images} must hold a tuple of places for each row: images=((4, 5, 6),)")
            for place in row:
                check_whole(0, images=place)
        if self.images == ():
            raise ValueError("images=() names no row; give one tuple of places for each, or one for all")
        for place in self.exclude:
            check_whole(0, exclude=place)
