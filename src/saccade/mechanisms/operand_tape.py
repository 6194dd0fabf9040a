"""Record q, k, v and outputs of visual tokens, so that another pass can attend with them."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.rows import Role
from saccade.core.site import Site
from saccade.core.state import Memory, Tape


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordOperands(Mechanism):
    """Puts final operands (r h n c) of one call's visual tokens into a dict.

    into      filled by name
    names     of operands, among q, k, v, and "o" for the output
    role      the rows to keep, by role or branch; None for all
    device    where to keep them; None leaves them where they are
    """

    into: MutableMapping[str, Tensor]
    names: str = "qkv"
    role: Role | None = None
    device: torch.device | None = None

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset() if self.role is None else frozenset({f"rows.{self.role}"})

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        span = call.layout_q.span(call.layout_q.image.name)
        for name in self.names:
            x: Tensor = (parts.total if name == "o" else getattr(call, name))[:, :, span].detach()
            x = x if self.role is None or call.rows is None else x[list(call.rows.where(self.role))]
            self.into[name] = x.clone() if self.device is None else x.to(self.device, copy=True)


Align = Literal["sigma", "official"]


def slot(tape: Tape, site: Site, clock: Clock) -> dict[str, Any]:
    """Where this call's operands belong; a branch run in forwards of its own has a place of its own."""
    return tape.slot(_level(clock), _place(site, clock))


def taped(tape: Tape, site: Site, clock: Clock, align: Align = "sigma") -> dict[str, Tensor]:
    """What was recorded at this noise level; under "official" at the next cleaner one.

    Raises StateError where the tape holds nothing cleaner.
    """
    place = _place(site, clock)
    place = place if tape.levels(place) else site.name
    if align == "sigma":
        return tape.at(_level(clock), place)
    cleaner = [level for level in tape.levels(place) if level < round(_level(clock), tape.digits)]
    if not cleaner:
        raise StateError(f"the tape has nothing cleaner than sigma={clock.sigma} for site '{place}'; record to the end")
    return tape.at(cleaner[-1], place)


def _place(site: Site, clock: Clock) -> str:
    return site.name if clock.branch in ("main", "cond") else f"{site.name} ({clock.branch})"


def _level(clock: Clock) -> float:
    if clock.sigma is None:
        raise StateError("a tape is kept by noise level, and this forward has none; attach with the flow's scheduler")
    return clock.sigma
