"""Which step a forward belongs to: the scheduler's own index; never counted.

Where there is no index (a list of timesteps, a scheduler not yet stepped) the timestep is looked up, which waits for
the device. Pipelines round it on its way, some twice: `t.to(bfloat16) / 1000` may be off by a unit in the last place
and name two steps at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isnan
from typing import Any

import torch
from torch import Tensor

from saccade.core.clock import Clock, largest
from saccade.core.snapshot import Snapshot

INDICES = ("step_index", "counter")  # by which schedulers say how far they are


@dataclass(eq=False)
class Schedule:
    """A scheduler, or its timesteps given by hand in falling order; read anew whenever they change.

    begin  the step that pictures made from others (`strength` below 1) begin with; steps count from there
    """

    scheduler: Any
    times: tuple[float, ...] = ()
    sigmas: tuple[float, ...] = ()
    begin: int | None = None
    read: dict[str, tuple[Any, Snapshot]] = field(default_factory=dict, repr=False)

    def refresh(self) -> bool:
        """Read times and sigmas again where they changed; True for other times: a new generation begins."""
        if self._changed("sigmas", sigmas := getattr(self.scheduler, "sigmas", None)):
            self.sigmas = _floats(sigmas)
        if not self._changed("times", times := getattr(self.scheduler, "timesteps", self.scheduler)):
            return False
        self.times, self.begin = _floats(times), None
        if not any(hasattr(self.scheduler, name) for name in INDICES):  # then a time that is repeated is one step
            self.times = tuple(dict.fromkeys(self.times))
        return True

    def _changed(self, name: str, now: Any) -> bool:
        source, snapshot = self.read.get(name, (None, None))
        if snapshot is not None and source is now and snapshot.holds(now):
            return False
        self.read[name] = now, Snapshot.of(now)
        return True

    def clock(self, given: Tensor | float, scale: float | None, offset: float = 0.0) -> Clock:
        """The clock of a forward that received `given`, of which `given` times `scale` plus `offset` is the time.

        scale  None where what is given follows no one rule: the step is the scheduler's own
        Raises ValueError if the schedule has no such time.
        """
        index = self._index()
        step = index if index is not None and 0 <= index < len(self.times) else self._looked_up(given, scale, offset)
        begin = self._begin(step)
        return Clock(
            step=step - begin, num_steps=len(self.times) - begin, given=self.times[step], sigma=self._sigma(step)
        )

    def _index(self) -> int | None:
        """The step the scheduler says it is at; before its first step, the one it begins with."""
        own, begin = (getattr(self.scheduler, name, None) for name in ("step_index", "begin_index"))
        if own is None and self.begin is not None and hasattr(self.scheduler, "counter"):
            return self.begin + self.scheduler.counter
        return begin if own is None else own

    def _begin(self, step: int) -> int:
        """The first step of this generation: as the scheduler says, or the first that was seen; of times by hand, 0."""
        if not hasattr(self.scheduler, "set_timesteps"):
            return 0
        said = getattr(self.scheduler, "begin_index", None) if self.begin is None else self.begin
        begin: int = step if said is None else said
        self.begin = 0 if step < begin else begin  # below: it runs another way
        return self.begin

    def _looked_up(self, given: Tensor | float, scale: float | None, offset: float) -> int:
        if scale is None or (isinstance(given, Tensor) and not given.numel()):  # no part of the sample is noisy
            return self._first()
        value = largest(given) * scale + offset
        near = self._near(value, scale, offset, given.dtype if isinstance(given, Tensor) else torch.float64)
        if not near:
            raise ValueError(
                f"timestep {value:g} is not in the schedule {_brief(self.times)}; "
                "attach with the scheduler that drives this model"
            )
        return min(near, key=lambda i: abs(self.times[i] - value))

    def _first(self) -> int:
        """Where nothing can be looked up: the first step of a scheduler that counts and has not stepped yet."""
        if not hasattr(self.scheduler, "step_index"):
            raise ValueError(
                "the timestep this model receives cannot be looked up in a list of times; "
                "attach with the scheduler itself, or tell the step by run.step(i, of=n)"
            )
        return 0

    def _near(self, value: float, scale: float, offset: float, dtype: torch.dtype) -> list[int]:
        """Steps whose time becomes `value` when rounded (or cut) to `dtype` once or twice, else those close to it."""
        times, eps = torch.tensor(self.times, dtype=torch.float64), 0.0
        if isnan(value):  # a schedule stretched to end at a level divides 0 by 0 where there is one step
            return times.isnan().nonzero().flatten().tolist()
        exact = (value - offset) / scale
        if dtype.is_floating_point:
            eps = torch.finfo(dtype).eps
        else:
            exact = round(exact)
        once, twice = ((times - offset) / scale).to(dtype), (times.to(dtype) - offset) / scale
        received = torch.tensor(exact, dtype=dtype)
        same = (once == received) | (twice == received)
        if same.any():
            return same.nonzero().flatten().tolist()
        slack = max(abs(value) * max(eps, 1e-5), 1e-3)  # eps is twice half a unit in the last place
        return ((times - value).abs() <= slack).nonzero().flatten().tolist()

    def _sigma(self, step: int) -> float | None:
        return self.sigmas[step] if len(self.sigmas) > step and self.sigmas[0] <= 1 else None


def _floats(values: Iterable[float] | Tensor | None) -> tuple[float, ...]:
    return () if values is None else tuple(map(float, values.tolist() if isinstance(values, Tensor) else values))


def _brief(times: tuple[float, ...]) -> str:
    return f"of {len(times)} steps" + (f" from {times[0]:g} to {times[-1]:g}" if times else "")
