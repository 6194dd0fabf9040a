"""Compose several reference pictures by texts and places, on a model that was trained with one (LAMIC)."""

from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from saccade.core.checks import check_numbers, check_word
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.lamic.groups import Entity, GroupIsolation, Padding, Stage, label

Words = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Lamic:
    """Words, place and reference picture of an entity see one another, and those of other entities never.

    entities     one `Entity` for each thing of the picture; without any nothing is masked
    interaction  positions, among text tokens, of a sentence that all entities share
    first_stage  share of the steps, from the first, in which regions do not see one another either
    padding      text of no entity: a "hub" between all groups, as released, or "isolated", seen by itself alone
    negative     words of each entity in a negative prompt that is run by itself, () where it has none
    where        sites and share of the steps; cross-attention is never touched
    Masks are made for the tokens that come: ValueError then where words, regions or references do not fit them.
    Raises ValueError for options out of range.
    """

    entities: tuple[Entity, ...] = ()
    interaction: tuple[int, ...] = ()
    first_stage: float = 0.05
    padding: Padding = "hub"
    negative: Words | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(first_stage=self.first_stage)
        if not 0 <= self.first_stage <= 1:
            raise ValueError(f"first_stage={self.first_stage} must be in [0, 1], a share of the steps")
        check_word(get_args(Padding), padding=self.padding)
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")
        if self.negative is not None and len(self.negative) != len(self.entities):
            raise ValueError(
                f"negative={self.negative} holds words of {len(self.negative)} entities for {len(self.entities)}; "
                "give () for one the negative prompt does not name"
            )
        self._check_entities()

    @property
    def name(self) -> str:
        return "lamic"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not self.entities or site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        stage: Stage = 1 if clock.step < int(self.first_stage * clock.num_steps) else 2
        return (self._mask(clock.branch == "uncond", stage),)

    @cached_property
    def _masks(self) -> dict[tuple[bool, Stage], GroupIsolation]:
        return {}

    def _mask(self, negative: bool, stage: Stage) -> GroupIsolation:
        """Of a phase: the same object each time."""
        if negative and self.negative is None:
            raise ValueError(
                "the negative prompt is a text of its own; give the words of each entity in it, as "
                f"negative={((),) * len(self.entities)} where it names none"
            )
        if (negative, stage) not in self._masks:
            words = self.negative if negative else tuple(entity.words for entity in self.entities)
            self._masks[negative, stage] = GroupIsolation(
                entities=self.entities, words=words or (), stage=stage, padding=self.padding,
                interaction=() if negative else self.interaction,
            )  # fmt: skip
        return self._masks[negative, stage]

    def _check_entities(self) -> None:
        references = [entity.reference for entity in self.entities if entity.reference is not None]
        if twice := [name for name in references if references.count(name) > 1]:
            raise ValueError(f"reference='{twice[0]}' belongs to two entities; give each a picture of its own")
        for number, entity in enumerate(self.entities):
            others = [i for i in range(len(self.entities)) if i != number]
            if bad := [i for i in entity.apart if i not in others]:
                raise ValueError(f"apart={bad} of {label(self.entities, number)} must be numbers among {others}")
