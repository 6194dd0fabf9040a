"""Sparse attention for videos, chosen anew in every call by a map at low resolution (DraftAttention)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from saccade.core.checks import check_numbers, check_word
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.draft_attention.draft import Guard, Pool, Pooling, patches_along
from saccade.papers.draft_attention.draft_regions import BLOCK, DraftRegions

Compat = Literal["official"]
# The released integrations, by model
PRESETS: dict[str, dict[str, Any]] = {
    "hunyuan_video": {"sparsity": 0.9, "skip": 0.0, "dense_above": 945.0, "dense_layers": 2},
    "hunyuan_custom": {"sparsity": 0.9, "skip": 0.0, "dense_above": 975.0, "dense_layers": 2},
    "wan": {"sparsity": 0.75, "skip": 0.0, "dense_above": 925.0, "dense_layers": 1},
}


@dataclass(frozen=True, kw_only=True)
class DraftAttention:
    """Attention between the patches of a video whose mean queries and keys attend to each other most.

    sparsity      share of the pairs of patches dropped, by head, in [0, 1); 0 is dense
    pool          rows and columns of a patch. Kernels work in blocks of 128 tokens, on the CPU in smaller ones too
    pooling       "mean"; "max" is the paper's ablation
    skip          share of the steps, at the beginning, that stay dense, in [0, 1]
    dense_above   steps of a higher timestep stay dense too, in the units of the scheduler, as 945 of 1000
    dense_layers  that many first blocks of the model stay dense, of its first stack where it has several
    guard         what every patch keeps: its "best" patch of keys, or itself, the "diagonal"
    strict        refuse grids that are no whole number of patches, and patches that are not 128 tokens
    compat        "official": no guard, so that a patch may lose all its keys
    where         sites and share of the steps; cross-attention is never touched
    Raises ValueError for options out of range.
    """

    sparsity: float = 0.9
    pool: Pool = (8, 16)
    pooling: Pooling = "mean"
    skip: float = 0.25
    dense_above: float | None = None
    dense_layers: int = 0
    guard: Guard = "best"
    strict: bool = False
    compat: Compat | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(
            sparsity=self.sparsity, skip=self.skip, dense_above=self.dense_above, dense_layers=self.dense_layers
        )
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity={self.sparsity} must be in [0, 1), the share dropped; 0 is dense")
        if not 0 <= self.skip <= 1:
            raise ValueError(f"skip={self.skip} must be in [0, 1], the share of the steps that stay dense")
        if self.dense_layers < 0:
            raise ValueError(f"dense_layers={self.dense_layers} must be at least 0 blocks")
        check_word(get_args(Pooling), pooling=self.pooling)
        check_word(get_args(Guard), guard=self.guard)
        self._check_pool()
        if self.compat not in (None, "official"):
            raise ValueError(f"compat='{self.compat}' must be 'official' or None")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @classmethod
    def preset(cls, model: str, **changes: Any) -> "DraftAttention":
        """As the released code has it for a model, with some options changed. Raises ValueError for an unknown one."""
        check_word(PRESETS, model=model)
        return cls(**{**PRESETS[model], **changes})

    @property
    def name(self) -> str:
        return "draft_attention"

    @property
    def timed(self) -> bool:
        """Whether the plan depends on the step, so that a host must give it."""
        return self.sparsity > 0 and (self.skip > 0 or self.dense_above is not None)

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        if self.sparsity == 0 or self._is_dense(site, clock):
            return ()
        return (self._regions,)

    def density(self, layout: Layout) -> float:
        """Share of pairs computed in a sparse call, where regions are of one size and no values tie."""
        image = layout.image
        assert image.grid is not None
        frames, down, across = patches_along(image.grid, self.pool)
        regions = (frames * down * across) ** 2
        dropped = max(int(self.sparsity * regions) - 1, 0) / regions
        return 1 - dropped * (image.n / layout.n) ** 2

    @cached_property
    def _regions(self) -> DraftRegions:
        guard = None if self.compat == "official" else self.guard
        return DraftRegions(
            sparsity=self.sparsity, pool=self.pool, pooling=self.pooling, guard=guard, strict=self.strict
        )

    def _is_dense(self, site: Site, clock: Clock) -> bool:
        early = clock.progress < self.skip
        return early or self._is_above(clock) or (site.stage == 0 and block_number(site) < self.dense_layers)

    def _is_above(self, clock: Clock) -> bool:
        if self.dense_above is None:
            return False
        if (time := clock.timestep) is None:
            raise ValueError(
                f"dense_above={self.dense_above} needs the timestep, and this host is given steps alone; use skip="
            )
        return time > self.dense_above

    def _check_pool(self) -> None:
        pool: Any = self.pool
        if not (
            isinstance(pool, tuple) and len(self.pool) == 2 and all(isinstance(s, int) and s > 0 for s in self.pool)
        ):
            raise ValueError(f"pool={pool!r} must be two sides in tokens, rows and columns, as (8, 16)")
        if self.strict and pool[0] * pool[1] != BLOCK:
            raise ValueError(
                f"pool={pool} is {pool[0] * pool[1]} tokens, and a block of the official kernel {BLOCK}; choose such a "
                "patch, as (8, 16), or strict=False"
            )


def block_number(site: Site) -> int:
    """Which block of its stack a site belongs to: the first number in its name, else its place among the sites."""
    return next((int(part) for part in site.name.split(".") if part.isdecimal()), site.index)
