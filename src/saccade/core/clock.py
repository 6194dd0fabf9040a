"""When a call happens: the step as looked up in the schedule, never counted."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Clock:
    """One denoising step. `timestep` is in the host's units, `sigma` in [0, 1] where the schedule has one."""

    step: int = 0
    num_steps: int = 1
    timestep: float | None = None
    sigma: float | None = None
    branch: str = "main"

    @property
    def progress(self) -> float:
        """Share of the steps already done, in [0, 1)."""
        return self.step / self.num_steps
