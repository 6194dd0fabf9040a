"""Put q, k and v of a pass on a tape, for another pass to attend with: of a picture's inversion, or of an edit.

tape = Tape()
with attach(transformer, OperandRecorder(tape=tape), schedule=levels):
    ...  # run the model at every level
"""

from dataclasses import dataclass

import torch

from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.rows import Role
from saccade.core.site import Site, Where, at
from saccade.core.state import Tape
from saccade.mechanisms.operand_tape import RecordOperands, slot


@dataclass(frozen=True, kw_only=True)
class OperandRecorder:
    """Record the operands of visual tokens by noise level and site; the output stays bitwise what it is.

    tape      filled while the model runs; the same level and site again is recorded over
    operands  names among q, k, v
    role      rows to keep, "target" to go on from an edit; None for all rows
    device    where the tape is kept, as "cpu" to spare an accelerator's memory; None leaves it where it is
    where     sites and share of the steps; by default the model's last stack of blocks, as FLUX's single-stream ones
    A tape holds steps x sites x operands x rows x image tokens x channels numbers.
    """

    tape: Tape
    operands: str = "qkv"
    role: Role | None = None
    device: str | None = None
    where: Where = at(stage="last")

    @property
    def name(self) -> str:
        return "operand_recorder"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        into, device = slot(self.tape, site, clock), None if self.device is None else torch.device(self.device)
        return (RecordOperands(into=into, names=self.operands, role=self.role, device=device),)
