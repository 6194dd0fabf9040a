"""A pipeline's steps, for whoever shows how far it is."""

import inspect
from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int, str], None]  # (steps done, in all, what runs now)


def step_callback(pipe: Any, progress: Progress | None, what: str = "draw") -> dict[str, Any]:
    """The argument by which a pipeline reports its steps; none where it takes no such argument, or nobody asks."""
    if progress is None or "callback_on_step_end" not in inspect.signature(pipe.__call__).parameters:
        return {}

    def step(pipe: Any, number: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        progress(number + 1, pipe.num_timesteps, what)
        return tensors

    return {"callback_on_step_end": step}
