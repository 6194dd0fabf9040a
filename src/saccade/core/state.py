"""State has one owner, the run: a `Memory` per (system, site, branch), and tapes of other passes.

A memory is double-buffered: `get` reads what the last step put, `put` shows at the next tick. So recomputing a forward,
or visiting sites in another order, cannot change what a mechanism reads.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from saccade.core.errors import StateError


@dataclass(eq=False)
class Memory:
    """What one system keeps at one site of one branch.

    `forward` grows over the sites of one forward and `run` lives as long as the run; a system's sites share them.
    """

    owner: str = "no owner"
    now: dict[str, Any] = field(default_factory=dict[str, Any])
    coming: dict[str, Any] = field(default_factory=dict[str, Any])
    forward: dict[str, Any] = field(default_factory=dict[str, Any])
    run: dict[str, Any] = field(default_factory=dict[str, Any])

    def has(self, key: str) -> bool:
        """Whether the last step, or an earlier one, put `key`."""
        return key in self.now

    def get(self, key: str, *, shape: tuple[int, ...] | None = None) -> Any:
        """What was put under `key` before this step; `shape` guards tensors against reuse with another sequence.

        Raises StateError where nothing was put, or something of another shape.
        """
        if key not in self.now:
            raise StateError(f"{self.owner} reads '{key}' before any step put it; let a step that puts it run first")
        value = self.now[key]
        if shape is not None and isinstance(value, Tensor) and tuple(value.shape) != tuple(shape):
            raise StateError(
                f"{self.owner} kept '{key}' of shape {tuple(value.shape)}, this call needs {tuple(shape)}; "
                "clear the run between sizes"
            )
        return value

    def holds(self, key: str) -> bool:
        """Whether `key` was put, this step included: for whoever reads a run's result."""
        return key in self.now or key in self.coming

    def put(self, key: str, value: Any) -> None:
        """Keep `value`; it can be read from the next step on."""
        self.coming[key] = value

    def last(self, key: str) -> Any:
        """What was put last, this step's included: to read a run's result, not for use inside a call."""
        return self.coming[key] if key in self.coming else self.get(key)

    def tick(self) -> None:
        """A step is over: what it put becomes readable."""
        self.now.update(self.coming)
        self.coming.clear()

    def leave_inference(self) -> None:
        """Copy what was put in inference mode, so that a forward that trains can read it."""
        for kept in (self.now, self.coming):
            kept.update({k: v.clone() for k, v in kept.items() if isinstance(v, Tensor) and v.is_inference()})

    def clear(self) -> None:
        """Forget everything of this memory."""
        self.now.clear()
        self.coming.clear()


@dataclass(eq=False)
class MemoryBank:
    """All memories of one run, made on demand and cleared at its end."""

    memories: dict[tuple[str, str, str], Memory] = field(default_factory=dict[tuple[str, str, str], Memory])
    forward: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    run: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def of(self, system: str, site: str, branch: str = "main") -> Memory:
        """The memory of a system at a site in a branch."""
        key = (system, site, branch)
        if key not in self.memories:
            forward, run = (shared.setdefault(system, {}) for shared in (self.forward, self.run))
            self.memories[key] = Memory(f"'{system}' at '{site}' ({branch})", forward=forward, run=run)
        return self.memories[key]

    def begin_forward(self) -> None:
        """Empty what grows over the sites of one forward."""
        for shared in self.forward.values():
            shared.clear()

    def tick(self) -> None:
        """A step is over for every memory."""
        for memory in self.memories.values():
            memory.tick()

    def leave_inference(self) -> None:
        """Copy what was put in inference mode, in every memory."""
        for memory in self.memories.values():
            memory.leave_inference()

    def clear(self) -> None:
        """Forget everything; the run has ended."""
        for memory in self.memories.values():
            memory.clear()
        for shared in (*self.forward.values(), *self.run.values()):
            shared.clear()


@dataclass(eq=False)
class Tape:
    """Values of another pass, keyed by (sigma, site); `plan` hands a mechanism its slice."""

    entries: dict[tuple[float, str], Any] = field(default_factory=dict[tuple[float, str], Any])
    digits: int = 6

    def record(self, sigma: float, site: str, value: Any) -> None:
        """Keep a value of this noise level and site."""
        self.entries[(round(sigma, self.digits), site)] = value

    def slot(self, sigma: float, site: str) -> dict[str, Any]:
        """The dict kept under this noise level and site, made empty: nothing counts as recorded until a call fills it.

        A plan hands it to a mechanism, so that a graph need not know the noise level.
        """
        return self.entries.setdefault((round(sigma, self.digits), site), {})

    def levels(self, site: str) -> list[float]:
        """Noise levels with something recorded at this site, rising."""
        return sorted({sigma for (sigma, name), value in self.entries.items() if name == site and not _empty(value)})

    def at(self, sigma: float, site: str) -> Any:
        """The value recorded at this noise level and site.

        Raises StateError where nothing was recorded at this site and noise level.
        """
        key = (round(sigma, self.digits), site)
        if key not in self.entries or _empty(self.entries[key]):
            raise StateError(
                f"the tape has nothing at sigma={sigma} for site '{site}'; "
                f"it holds sigmas {self.levels(site)}: use the same schedule"
            )
        return self.entries[key]


def _empty(value: object) -> bool:
    return isinstance(value, dict) and not value
