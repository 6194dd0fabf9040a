"""Target rows attend with the keys and values of their source rows, words included (DiTCtrl)."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import torch

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.site import EVERYWHERE, Site, Where, at
from saccade.mechanisms.running_columns import RunningColumns
from saccade.mechanisms.shared_operands import SharedOperands
from saccade.papers.ditctrl.matched_regions import MatchedRegions
from saccade.papers.ditctrl.word_weight import BiasedLogits, ScaledProbabilities

SHARED = SharedOperands(weights={"k": 1.0, "v": 1.0}, text=("k", "v"))
CONDITIONAL = ("main", "cond")  # branches with conditional rows among theirs


@dataclass(frozen=True, kw_only=True)
class DiTCtrl:
    """Queries of target rows attend to all keys and values of their source rows, in the last layers, in early steps.

    words         positions within the source's text of one object; with them the target's object attends to the
                  source's, and its surroundings to the surroundings. () shares without masks
    target_words  of the same object within the target's text; None where they are the same
    threshold     from which a word's map, stretched to [0, 1] in each frame, is the object
    deepest       share of the layers, from the last, that share; at least one unless it is 0
    layers        numbers of the layers that share, instead
    steps         numbers of the steps that share, instead of `where.during`
    where         sites and share of the steps; cross-attention is never touched
    Attach with rows=Rows.of("source", "target", samples=n) for a batch of n source and then n target rows.
    Where text is apart (Wan), masks come from the cross-attention that the forward has passed; layer 0 has none. Attach
    with where=Where(kinds=("self", "cross")) then.
    Raises ValueError for options out of range.
    """

    words: tuple[int, ...] = ()
    target_words: tuple[int, ...] | None = None
    threshold: float = 0.3
    deepest: float = 1 / 6
    layers: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None
    where: Where = at(during=(0.04, 0.5))

    def __post_init__(self) -> None:
        check_numbers(threshold=self.threshold, deepest=self.deepest)
        for name in ("threshold", "deepest"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={value} must be in [0, 1]")
        for name in ("words", "target_words", "layers", "steps"):
            check_counts(**{name: getattr(self, name)})
        if self.target_words is not None and not (self.words and self.target_words):
            raise ValueError(
                f"words={self.words} and target_words={self.target_words} must both name tokens of the object, "
                "or leave target_words out"
            )
        check_heads(self.where)

    @property
    def name(self) -> str:
        return "ditctrl"

    @property
    def timed(self) -> bool:
        """Whether the plan follows the step."""
        return self.steps is not None or self.where.during != (0.0, 1.0)

    def check_sites(self, sites: tuple[Site, ...]) -> None:
        """Raise SelectorError where layers asked for, or sites with words to watch, are not among those attached."""
        if self.layers and not any(self._shares(site) for site in sites):
            raise SelectorError(f"layers={self.layers} are none of the {sites[0].layers} layers, or not in where")
        if self.words and all(site.kind == "self" for site in sites):
            raise SelectorError(
                f"words={self.words} are watched at sites with text, and none is attached; attach with "
                "where=Where(kinds=('joint', 'self', 'cross'))"
            )

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not (clock.step in self.steps if self.steps is not None else self.where.active(clock)):
            return ()
        items: list[Mechanism] = [self._watched] if self._watches(site, clock) else []
        if self._shares(site):
            items.append(SHARED)
            if self.words:
                items.append(self._matched if clock.branch in CONDITIONAL else self._matched_again)
        return tuple(items)

    def _shares(self, site: Site) -> bool:
        chosen = site.layer in self.layers if self.layers is not None else site.layer >= self._first(site)
        return site.kind != "cross" and chosen and self.where.covers(site)

    def _first(self, site: Site) -> int:
        return site.layers - ceil(site.layers * self.deepest - 1e-9)

    def _watches(self, site: Site, clock: Clock) -> bool:
        last = max(self.layers, default=-1) if self.layers is not None else site.layers
        return bool(self.words) and site.kind != "self" and clock.branch in CONDITIONAL and site.layer <= last

    @cached_property
    def _watched(self) -> RunningColumns:
        theirs = self.words if self.target_words is None else self.target_words
        return RunningColumns(words={"source": torch.tensor([self.words]), "target": torch.tensor([theirs])})

    @cached_property
    def _matched(self) -> MatchedRegions:
        return MatchedRegions(threshold=self.threshold)

    @cached_property
    def _matched_again(self) -> MatchedRegions:
        return MatchedRegions(threshold=self.threshold, again=True)


@dataclass(frozen=True, kw_only=True)
class WordStrength:
    """Strengthen or weaken a word of the target rows' text, in a layout that source rows of the same text give.

    tokens  positions of the word within the text
    factor  on what visual tokens pay to the word and the word to them, after the softmax: 0 removes it
    bias    added to those scores before the softmax instead, as -5 to weaken; sums stay one
    lock    first steps in which target rows take the keys and values of their source rows
    where   sites and share of the steps; on hosts with text apart (Wan) Where(kinds=("self", "cross"))
    Attach with rows=Rows.of("source", "target", samples=n). Raises ValueError for options out of range.
    """

    tokens: tuple[int, ...]
    factor: float = 1.0
    bias: float | None = None
    lock: int = 2
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(factor=self.factor, bias=self.bias)
        check_counts(tokens=self.tokens, lock=(self.lock,))
        if not self.tokens:
            raise ValueError("tokens=() name no word; give its positions within the text")
        if self.factor < 0 or (self.bias is not None and self.factor != 1):
            raise ValueError(f"factor={self.factor} must be 0 or above, and left out where bias={self.bias} is given")
        check_heads(self.where)

    @property
    def name(self) -> str:
        return "word_strength"

    @property
    def timed(self) -> bool:
        """Whether the plan follows the step."""
        return self.lock > 0 or self.where.during != (0.0, 1.0)

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not (self.where.covers(site) and self.where.active(clock)):
            return ()
        locked = (SHARED,) if site.kind != "cross" and clock.step < self.lock else ()
        return (*locked, *(self._weighed if site.kind != "self" else ()))

    @cached_property
    def _weighed(self) -> tuple[Mechanism, ...]:
        if self.bias is not None:
            return (BiasedLogits(tokens=self.tokens, bias=self.bias),) if self.bias else ()
        return (ScaledProbabilities(tokens=self.tokens, factor=self.factor),) if self.factor != 1 else ()


def check_counts(**named: tuple[int, ...] | None) -> None:
    """ValueError unless every named value is None or whole numbers from 0."""
    for name, value in named.items():
        if value is not None and any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in value):
            raise ValueError(f"{name}={value!r} must be whole numbers, 0 or above")


def check_heads(where: Where) -> None:
    """ValueError where a system is to act on some heads."""
    if where.heads is not None:
        raise ValueError(f"where.heads={where.heads} belongs to attach(where=...), which leaves heads alone")
