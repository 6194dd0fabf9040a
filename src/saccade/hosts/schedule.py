"""Which step a forward belongs to: its timestep looked up in the scheduler, never counted."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saccade.core.clock import Clock

LOW = 2.0**-8  # half a unit in the last place of bfloat16, in which pipelines may hand timesteps over


@dataclass(eq=False)
class Schedule:
    """A scheduler, or its timesteps given by hand in falling order; read anew whenever it makes new ones."""

    scheduler: Any
    times: tuple[float, ...] = ()
    source: object = field(default=None, repr=False)

    def refresh(self) -> bool:
        """Read the timesteps again if the scheduler made new ones; True when it did: a new generation begins."""
        source = getattr(self.scheduler, "timesteps", self.scheduler)
        if source is self.source:
            return False
        self.source, self.times = source, tuple(map(float, source.tolist() if isinstance(source, Tensor) else source))
        return True

    def clock(self, given: Tensor | float, scale: float, branch: str = "main") -> Clock:
        """The clock of a forward that received `given`; ValueError if the schedule has no such time."""
        value = largest(given) * scale
        slack = max(abs(value) * (LOW if _is_low(given) else 1e-5), 1e-3)
        near = [i for i, t in enumerate(self.times) if abs(t - value) <= slack]
        if not near:
            raise ValueError(
                f"timestep {value:g} is not in the schedule {_brief(self.times)}; "
                "attach with the scheduler that drives this model"
            )
        step = self._settle(near, value)
        return Clock(
            step=step, num_steps=len(self.times), timestep=self.times[step], sigma=self._sigma(step), branch=branch
        )

    def _settle(self, near: list[int], value: float) -> int:
        """Among times that look alike in low precision, the scheduler's own index decides."""
        own = getattr(self.scheduler, "step_index", None)
        return own if own in near else min(near, key=lambda i: abs(self.times[i] - value))

    def _sigma(self, step: int) -> float | None:
        sigmas = getattr(self.scheduler, "sigmas", None)
        if sigmas is None or len(sigmas) <= step:
            return None
        return float(sigmas[step]) if float(sigmas[0]) <= 1 else None


def largest(given: Tensor | float) -> float:
    """A timestep as one number: the largest, where tokens or rows have their own."""
    return float(given.max()) if isinstance(given, Tensor) else float(given)


def _is_low(given: Tensor | float) -> bool:
    return isinstance(given, Tensor) and given.dtype in (torch.bfloat16, torch.float16)


def _brief(times: tuple[float, ...]) -> str:
    return f"of {len(times)} steps" + (f" from {times[0]:g} to {times[-1]:g}" if times else "")
