"""When a call happens: the step as looked up in the schedule, never counted."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Clock:
    """One denoising step; `sigma` in [0, 1] where the schedule has one.

    part   of the step, as `run.part` named it
    first  the step at which the model, in this branch, began: above 0 where others ran the steps before
    given  the timestep as it was received, a number or a tensor; see `timestep`
    """

    step: int = 0
    num_steps: int = 1
    sigma: float | None = None
    branch: str = "main"
    part: str = ""
    first: int = 0
    given: Any = field(default=None, repr=False, compare=False)

    @property
    def progress(self) -> float:
        """Share of the steps already done, in [0, 1)."""
        return self.step / self.num_steps

    @property
    def timestep(self) -> float | None:
        """In the host's units, the largest where tokens or rows have their own; reading it may wait for the device."""
        return None if self.given is None else largest(self.given)


def largest(given: Any) -> float:
    """A timestep, a number or a tensor, as one number."""
    return float(given.max() if hasattr(given, "max") else given)
