"""Drag an object to another place: target rows draw the source's picture under another layout (DiffUHaul)."""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal
from warnings import warn

import torch
from torch import Tensor

from saccade.core.checks import check_numbers, check_word
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.mechanisms.operand_tape import RecordOperands
from saccade.mechanisms.shared_operands import SharedOperands
from saccade.papers.diffuhaul.anchors import Anchor, NearestCopy, SoftAnchor
from saccade.papers.diffuhaul.blob_regions import BlobRegions, Words
from saccade.papers.diffuhaul.blobs import Blob, Blobs, check_layouts
from saccade.papers.diffuhaul.carrying import CarriedOperands

Schedule = Literal["t/T", "1-t/T"] | Callable[[float], float]
SCHEDULES: dict[str, Callable[[float], float]] = {"t/T": lambda done: 1 - done, "1-t/T": lambda done: done}
SourceFeatures = MutableMapping[str, dict[str, Tensor]]  # by site: k, v and o of the source's image tokens
SOURCE = "source"  # the part of a step that is a forward of the source alone
GATES = ".fuser.attn"  # how sites of gated self-attention end


@dataclass(frozen=True, kw_only=True)
class DiffUHaul:
    """Target rows take keys, values and attention outputs of source rows, while their object stands elsewhere.

    source, target  a `Blob` for each object, in the order of the model's grounding; only the dragged one differs
    drag       number of the dragged object
    words      for text and image in one sequence: positions of each object's words within the text
    target_words  the same in the target's text; None where they are the same
    masked     step 1: objects' grounding, or words, sees its own blob alone and is seen from there
    share      step 2: targets attend with the keys and values of the source's image
    schedule   step 3, early: the weight of the source's outputs, "t/T" (fading), "1-t/T" (rising), or a function of the
               share of the steps that is done; None for no anchoring
    kappa      factor on that weight, in [0, 1]
    tau        share of the steps that are early
    nearest    step 3, late: the object's outputs are those of the source's nearest tokens
    carry      the object's keys, values and outputs move with it, for hosts whose keys hang on places, as FLUX's
    features   where source rows are not in the batch: filled by forwards that are the part "source" of a step
               (`run.part`), read by all that follow
    where      sites and share of the steps; cross-attention is never touched
    Attach with rows=Rows.of("source", "target"); with `features` Rows.of("target").
    Raises ValueError for options out of range.
    """

    source: Blobs
    target: Blobs
    drag: int = 0
    words: Words = ()
    target_words: Words | None = None
    masked: bool = True
    share: bool = True
    schedule: Schedule | None = "t/T"
    kappa: float = 1.0
    tau: float = 0.5
    nearest: bool = True
    carry: bool = False
    features: SourceFeatures | None = field(default=None, compare=False)
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_layouts(self.source, self.target, self.drag)
        check_numbers(kappa=self.kappa, tau=self.tau)
        for name in ("kappa", "tau"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={value} must be in [0, 1]" + (", a share of the steps" * (name == "tau")))
        if isinstance(self.schedule, str):
            check_word(SCHEDULES, schedule=self.schedule)
        for name, words in (("words", self.words), ("target_words", self.target_words)):
            if words and len(words) != len(self.source):
                raise ValueError(f"{name} are those of {len(words)} objects, there are {len(self.source)}; () for none")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} belongs to attach(where=...), which leaves heads alone")

    @property
    def name(self) -> str:
        return "diffuhaul"

    @property
    def timed(self) -> bool:
        """Whether the plan follows the step."""
        return self.schedule is not None or (self.nearest and self.tau > 0) or self.where.during != (0.0, 1.0)

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Warn where step 1 has nothing to act on."""
        if self.masked and not self.words and not any(_gated(site) for site in sites):
            warn(
                "no attached site has gated self-attention, so only sharing, anchoring and blending apply; where text "
                "and image are one sequence give each object's words=, or masked=False",
                stacklevel=5,
            )

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        alone = self.features is not None and clock.part == SOURCE
        masks = self._masks(site, alone)
        if _gated(site):
            return masks
        if self.features is None:
            return (*masks, *self._shared, *self._anchors(clock))
        place = site.name if clock.branch in ("main", "cond") else f"{site.name} ({clock.branch})"
        if alone:
            return (*masks, RecordOperands(into=self.features.setdefault(place, {}), names="kvo"))
        return (*masks, *self._taken(place, clock))

    def _masks(self, site: Site, alone: bool) -> tuple[PlanItem, ...]:
        if not (self.masked and (_gated(site) or (self.words and site.kind == "joint"))):
            return ()
        return (self._own_regions if alone else self._regions,)

    def _taken(self, place: str, clock: Clock) -> tuple[PlanItem, ...]:
        """Sharing and anchoring by what a forward of the source alone left."""
        found = (self.features or {}).get(place)
        if not found:
            raise StateError(
                f"features hold nothing of site '{place}'; run the source first, after run.part('{SOURCE}')"
            )
        taped = {name: found[name] for name in "kv"}
        shared = tuple(replace(mechanism, taped=taped) for mechanism in self._shared)
        return (*shared, *(replace(anchor, taken={"o": found["o"]}) for anchor in self._anchors(clock)))

    def _anchors(self, clock: Clock) -> tuple[Anchor, ...]:
        """Of the early steps, with the weight of this one, or of the late ones: the same object each time."""
        if clock.step >= self.tau * clock.num_steps:
            return (self._nearest,) if self.nearest else ()
        if self.schedule is None:
            return ()
        self._soft.weight.fill_(self.weight(clock.progress))
        return (self._soft,)

    def weight(self, done: float) -> float:
        """w of a step by the share of the steps before it. Raises ValueError where a schedule leaves [0, 1]."""
        if self.schedule is None:
            return 0.0
        given = SCHEDULES[self.schedule] if isinstance(self.schedule, str) else self.schedule
        if not 0 <= (weight := self.kappa * given(done)) <= 1:
            raise ValueError(f"schedule gives {weight:g} where {done:g} of the steps are done; it must be in [0, 1]")
        return weight

    @property
    def way(self) -> tuple[Blob, Blob]:
        """The dragged object's blobs."""
        return self.source[self.drag], self.target[self.drag]

    @cached_property
    def _shared(self) -> tuple[SharedOperands | CarriedOperands, ...]:
        if not self.share:
            return ()
        if self.carry:
            return (CarriedOperands(source=self.way[0], target=self.way[1]),)
        return (SharedOperands(weights={"k": 1.0, "v": 1.0}),)

    @cached_property
    def _soft(self) -> SoftAnchor:
        with torch.inference_mode(False):
            return SoftAnchor(weight=torch.zeros(()), way=self.way if self.carry else None)

    @cached_property
    def _nearest(self) -> NearestCopy:
        return NearestCopy(source=self.way[0], target=self.way[1])

    @cached_property
    def _regions(self) -> BlobRegions:
        theirs = self.words if self.target_words is None else self.target_words
        return BlobRegions(source=self.source, target=self.target, source_words=self.words, target_words=theirs)

    @cached_property
    def _own_regions(self) -> BlobRegions:
        """Of the source alone: whatever its rows are called."""
        return BlobRegions(source=self.source, target=self.source, source_words=self.words, target_words=self.words)


def _gated(site: Site) -> bool:
    return site.name.endswith(GATES)
