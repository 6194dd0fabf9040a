"""Mixture of blocks for video: per head, the strongest pairs of a query and a block of keys are attended (VMoBA)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

from saccade.core.checks import check_numbers, check_word
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.vmoba.chosen_chunks import ChosenChunks
from saccade.papers.vmoba.partition import Blocks, Box, Frames, OwnChunk, Tile
from saccade.papers.vmoba.selection import Scope, Select, Threshold, TopK

DENSE_START = 0.25  # of the steps, without training


@dataclass(frozen=True, kw_only=True)
class VMoBA:
    """Attention to blocks that alternate from layer to layer: runs of frames, tiles through all frames, boxes.

    frames      latent frames of a block, which need not be whole; None leaves the kind out, as of the two below
    tile        (h, w) of a block through all frames, in tokens; they must divide the grid. Pictures: this alone
    box         (t, h, w) of a block, in tokens; they must divide the grid
    select      "threshold" keeps the fewest pairs whose gates sum to a share `tau`; "topk" `k` blocks for each query
    scope       which pairs compete: those of a head, of a query and head, of a block, or all of a sample
    tau         in (0, 1]; 1 is dense
    k           blocks for each query, its own among them: one number, or one for each kind given, in the order above
    forced_own  every token keeps its own block, whatever its gate; False is the paper's Eq. 4, and holds an n x n map
    skip        share of the steps that stay dense, in [0, 1]
    where       sites and share of the steps; cross-attention is never touched
    The layer is the place among the model's attention modules that are no cross-attention.
    Raises ValueError for options out of range.
    """

    frames: float | None = None
    tile: tuple[int, int] | None = None
    box: tuple[int, int, int] | None = None
    select: Select = "threshold"
    scope: Scope = "head_global"
    tau: float = 0.25
    k: int | tuple[int, ...] | None = None
    forced_own: bool = True
    skip: float = 0.0
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_word(get_args(Select), select=self.select)
        check_word(get_args(Scope), scope=self.scope)
        check_numbers(frames=self.frames, tau=self.tau, skip=self.skip)
        if self.frames is not None and not self.frames > 0:
            raise ValueError(f"frames={self.frames} must be above 0; None leaves runs of frames out")
        _check_sides("tile", self.tile, "h, w")
        _check_sides("box", self.box, "t, h, w")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau={self.tau} must be in (0, 1]; 1 is dense")
        if not 0 <= self.skip <= 1:
            raise ValueError(f"skip={self.skip} must be in [0, 1], the share of the steps that stay dense")
        if self.select == "topk" and not self.forced_own:
            raise ValueError("forced_own=False is a rule for select='threshold'; topk counts a token's own block")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")
        _ = self._cycle

    @classmethod
    def preset(cls, size: str, **options: Any) -> "VMoBA":
        """The paper's settings for a size (frames x height x width in pixels), with some options changed.

        >>> VMoBA.preset("93x576x1024").box
        (8, 12, 8)
        Raises ValueError for a size the paper does not have.
        """
        check_word(PRESETS, size=size)
        return replace(PRESETS[size], **options)

    @property
    def name(self) -> str:
        return "vmoba"

    @property
    def timed(self) -> bool:
        """The plan depends on the step, so a host must tell it."""
        return self.skip > 0

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        dense = self.select == "threshold" and self.tau == 1
        if dense or site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        if clock.progress < self.skip:
            return ()
        return self._cycle[site.layer % len(self._cycle)]

    @cached_property
    def _cycle(self) -> tuple[tuple[OwnChunk, ChosenChunks], ...]:
        """What holds in each layer of a cycle."""
        kinds: tuple[Blocks | None, ...] = (
            None if self.frames is None else Frames(self.frames),
            None if self.tile is None else Tile(*self.tile),
            None if self.box is None else Box(*self.box),
        )
        found = [blocks for blocks in kinds if blocks is not None]
        if not found:
            raise ValueError("frames, tile and box are all None; give the size of one kind of block at least")
        rules = self._rules(len(found))
        return tuple(
            (OwnChunk(blocks), ChosenChunks(blocks=blocks, rule=rule))
            for blocks, rule in zip(found, rules, strict=True)
        )

    def _rules(self, kinds: int) -> tuple[Threshold | TopK, ...]:
        if self.select == "threshold":
            return (Threshold(tau=self.tau, scope=self.scope, forced_own=self.forced_own),) * kinds
        counts = (self.k,) * kinds if isinstance(self.k, int) else self.k
        if counts is None or len(counts) != kinds or not all(_whole(k) for k in counts):
            raise ValueError(
                f"k={self.k} must be at least 1, one number or one for each of the {kinds} kinds of blocks given"
            )
        return tuple(TopK(k=k, scope=self.scope) for k in counts)


def _whole(x: object) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x >= 1


def _check_sides(name: str, given: tuple[int, ...] | None, sides: str) -> None:
    count = len(sides.split(", "))
    if given is not None and not (isinstance(given, tuple) and len(given) == count and all(map(_whole, given))):
        raise ValueError(f"{name}={given} must be {count} sizes ({sides}) of at least 1 token")


def _untrained(**options: Any) -> VMoBA:
    return VMoBA(select="topk", scope="query_head", skip=DENSE_START, **options)


PRESETS = {
    "81x480x832": _untrained(frames=3, tile=(5, 13), box=(7, 5, 13), k=(2, 6, 18)),
    "81x720x1280": _untrained(frames=3, tile=(9, 10), box=(7, 15, 20), k=(2, 10, 9)),
    "93x576x1024": VMoBA(frames=3, tile=(6, 8), box=(8, 12, 8)),
    "141x480x832": VMoBA(frames=3, tile=(5, 13), box=(12, 10, 13)),
}
