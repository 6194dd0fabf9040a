"""Which step a forward belongs to: the scheduler's own index, checked by the timestep; never counted.

Where there is no index (a list of timesteps, a scheduler not yet stepped) the timestep alone is looked up. Pipelines
round it on its way, some twice: `t.to(bfloat16) / 1000` may be off by a unit in the last place and name two steps at
once.
"""

from dataclasses import dataclass, field
from math import isnan
from typing import Any

import torch
from torch import Tensor

from saccade.core.clock import Clock


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
        near = self._near(value, scale, given.dtype if isinstance(given, Tensor) else torch.float64)
        if not near:
            raise ValueError(
                f"timestep {value:g} is not in the schedule {_brief(self.times)}; "
                "attach with the scheduler that drives this model"
            )
        step = own if (own := self._index()) in near else min(near, key=lambda i: abs(self.times[i] - value))
        return Clock(
            step=step, num_steps=len(self.times), timestep=self.times[step], sigma=self._sigma(step), branch=branch
        )

    def _near(self, value: float, scale: float, dtype: torch.dtype) -> list[int]:
        """Steps whose time becomes `value` when rounded to `dtype` once or twice, else those close to it."""
        times, eps = torch.tensor(self.times, dtype=torch.float64), 0.0
        if isnan(value):  # a schedule stretched to end at a level divides 0 by 0 where there is one step
            return times.isnan().nonzero().flatten().tolist()
        if dtype.is_floating_point:
            received, eps = torch.tensor(value / scale, dtype=dtype), torch.finfo(dtype).eps
            same = ((times / scale).to(dtype) == received) | (times.to(dtype) / scale == received)
            if same.any():
                return same.nonzero().flatten().tolist()
        slack = max(abs(value) * max(eps, 1e-5), 1e-3)  # eps is twice half a unit in the last place
        return ((times - value).abs() <= slack).nonzero().flatten().tolist()

    def _index(self) -> int | None:
        """The step the scheduler says it is at; before its first step, the one it begins with."""
        own = getattr(self.scheduler, "step_index", None)
        return getattr(self.scheduler, "begin_index", None) if own is None else own

    def _sigma(self, step: int) -> float | None:
        sigmas = getattr(self.scheduler, "sigmas", None)
        if sigmas is None or len(sigmas) <= step:
            return None
        return float(sigmas[step]) if float(sigmas[0]) <= 1 else None


def largest(given: Tensor | float) -> float:
    """A timestep as one number: the largest, where tokens or rows have their own."""
    return float(given.max()) if isinstance(given, Tensor) else float(given)


def _brief(times: tuple[float, ...]) -> str:
    return f"of {len(times)} steps" + (f" from {times[0]:g} to {times[-1]:g}" if times else "")
