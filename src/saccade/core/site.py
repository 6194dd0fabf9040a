"""Where a call happens, and how sites are chosen by data."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import index
from typing import Any, Literal, get_args

from saccade.core.clock import Clock

SiteKind = Literal["joint", "self", "cross"]
SiteStage = Literal["all", "last"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One attention module of a host: `index` of `count` in order of execution.

    `layer` of `layers` is its place among the modules that are no cross-attention: the block of a model that has one
    in each.
    `stage` of `stages` distinguishes the model's stacks of blocks, as FLUX's double-stream and single-stream blocks.
    """

    name: str
    index: int = 0
    count: int = 1
    layer: int = 0
    layers: int = 1
    stage: int = 0
    stages: int = 1
    kind: SiteKind = "self"
    heads: int = 1

    @property
    def depth(self) -> float:
        """Place in the model, 0 for the first site and 1 for the last."""
        return self.index / max(self.count - 1, 1)


@dataclass(frozen=True, kw_only=True)
class Where:
    """Sites by name pattern, kind and place in the model, heads, and a span of progress; build it with `at`.

    Raises ValueError for options out of range.
    """

    pattern: str = "*"
    kinds: tuple[SiteKind, ...] = ("joint", "self")
    heads: tuple[int, ...] | None = None
    during: tuple[float, float] = (0.0, 1.0)
    depth: tuple[float, float] = (0.0, 1.0)
    stage: SiteStage = "all"

    def __post_init__(self) -> None:
        for name, span, of in (("during", self.during, "steps"), ("depth", self.depth, "sites")):
            if not _rising(span):
                raise ValueError(f"{name}={span} must be a rising pair within [0, 1], in shares of the {of}")
        pattern: Any = self.pattern
        if not isinstance(pattern, str):
            raise ValueError(f"pattern={pattern!r} must be a pattern of site names, such as '*single*'")
        if unknown := [kind for kind in self.kinds if kind not in get_args(SiteKind)]:
            raise ValueError(f"kind={unknown[0]!r} must be one of {get_args(SiteKind)}")
        if self.heads is not None and not _numbers(self.heads):
            raise ValueError(
                f"heads={self.heads!r} must hold the number of at least one head, each once; None is all heads"
            )
        if self.stage not in get_args(SiteStage):
            raise ValueError(f"stage='{self.stage}' must be one of {get_args(SiteStage)}")

    def covers(self, site: Site) -> bool:
        """Whether the site is chosen, at any time."""
        deep = self.depth[0] <= site.index / site.count < self.depth[1]
        staged = self.stage == "all" or site.stage == site.stages - 1
        return site.kind in self.kinds and deep and staged and fnmatchcase(site.name, self.pattern)

    def active(self, clock: Clock) -> bool:
        """Whether this step lies within `during`."""
        return self.during[0] <= clock.progress < self.during[1]


def _rising(span: Any) -> bool:
    try:
        low, high = span
        return bool(0 <= low < high <= 1)
    except (TypeError, ValueError):  # no pair, or none of numbers
        return False


def _numbers(heads: Any) -> bool:
    try:
        return 0 < len(heads) == len({index(head) for head in heads})
    except TypeError:  # nothing to count, or no whole number
        return False


EVERYWHERE = Where()


def at(
    pattern: str = "*",
    *,
    kind: SiteKind | None = None,
    heads: tuple[int, ...] | None = None,
    during: tuple[float, float] = (0.0, 1.0),
    depth: tuple[float, float] = (0.0, 1.0),
    stage: SiteStage = "all",
) -> Where:
    """Choose sites: `at("*single*", heads=(3, 7), during=(0.0, 0.4))`. Cross-attention only if asked by `kind`.

    during  share of the steps; depth  share of the model's sites, in order
    stage   "last" chooses in the model's last stack of blocks only, as FLUX's single-stream ones
    """
    kinds: tuple[SiteKind, ...] = ("joint", "self") if kind is None else (kind,)
    return Where(pattern=pattern, kinds=kinds, heads=heads, during=during, depth=depth, stage=stage)
