"""Edit by words: k and v of a source picture shared with a target's, in layers a probe chose (FreeFlux)."""

from dataclasses import dataclass, replace
from functools import cached_property

from saccade.analysis.layers import LayerSets
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.state import Tape
from saccade.mechanisms.operand_tape import taped
from saccade.mechanisms.shared_operands import SharedOperands
from saccade.papers.freeflux.kinds import AddObject, KeepRegion, Reshape


@dataclass(frozen=True, kw_only=True)
class FreeFlux:
    """Target rows share k and v of image tokens with their source rows, in layers that a probe chose.

    edit    `AddObject`, `Reshape` or `KeepRegion`
    layers  the model's layers by what they hang on, from `probe_layers(pipe, ...).sets()`; needed unless the edit
            shares in all layers
    tape    operands of source rows recorded in another pass (`OperandRecorder`): they replace those of the source
            rows, or stand for source rows that are not in the batch
    where   sites and share of the steps; cross-attention is never touched
    Attach with rows=Rows.of("source", "target", samples=n) for a batch of n source and then n target prompts, both
    from the same noise. Text and queries of targets stay their own.
    Raises ValueError for options out of range, SelectorError at a site the layers do not know.
    """

    edit: AddObject | Reshape | KeepRegion = Reshape()
    layers: LayerSets | None = None
    tape: Tape | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        if self.layers is None and self.edit.layers != "all":
            raise ValueError(
                f"layers=None says nothing of which layers hang on {self.edit.layers}; "
                "probe the model: layers=probe_layers(pipe, ...).sets()"
            )
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} belongs to attach(where=...), which leaves heads alone")

    @property
    def name(self) -> str:
        return "freeflux"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        chosen = self.layers is None or self.layers.covers(site, self.edit.layers)
        if not chosen or clock.step >= round(self.edit.steps * clock.num_steps) or not self.edit.operands:
            return ()
        if self.tape is None:
            return (self._shared,)
        found = taped(self.tape, site, clock)
        return (replace(self._shared, taped={name: found[name] for name in self.edit.operands}),)

    @cached_property
    def _shared(self) -> SharedOperands:
        return self.edit.shared()
