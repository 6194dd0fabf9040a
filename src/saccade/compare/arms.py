"""The arms of a comparison before they run, and the order in which they run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from saccade.compare.comparison import Role
from saccade.core.catalogue import lookup
from saccade.core.mechanism import System, check_system
from saccade.core.specs import parse_stack

Stack = tuple[System, ...]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How pictures are drawn; None leaves an argument to the pipeline.

    batch    pictures drawn in one call; repeats: how often everything is drawn, for steadier times
    floor    kernel of the second dense arm, None to leave that arm out
    options  further arguments of the pipeline's call, such as guidance_scale
    Raises ValueError for options out of range.
    """

    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    height: int | None = None
    width: int | None = None
    batch: int = 1
    repeats: int = 1
    floor: str | None = "reference"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds=() leaves nothing to draw; give at least one")
        for name in ("batch", "repeats", "steps", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An arm before it ran."""

    label: str
    role: Role
    stack: Stack


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A batch that every arm draws; `first` is False for repeats, whose pictures are known."""

    jobs: tuple[tuple[int, int], ...]  # (prompt, seed)
    first: bool


Systems = Sequence[System | Stack] | Mapping[str, System | Stack]


def candidates(systems: Systems, floor: str | None) -> tuple[Candidate, ...]:
    """The arms in order: floor, reference, systems. Without names of their own, arms of one label are numbered."""
    second = [] if floor is None else [lookup("dense").load()(kernel=floor)]
    found = [Candidate(label=f"dense ({floor} kernel)", role="floor", stack=(system,)) for system in second]
    found.append(Candidate(label="dense", role="reference", stack=()))
    named = systems.items() if isinstance(systems, Mapping) else ((None, each) for each in systems)
    for name, entry in named:
        stack = entry if isinstance(entry, tuple) else (entry,)
        label = name or " + ".join(map(to_spec, stack)) or "empty stack"
        same = sum(c.label.split(" #")[0] == label for c in found)
        found.append(Candidate(label=f"{label} #{same + 1}" if same else label, role="system", stack=stack))
    return tuple(found)


def to_spec(system: System) -> str:
    """A system as one writes it: its name and the options that differ from their defaults.

    Raises TypeError for what is no system.
    """
    check_system(system)
    if not is_dataclass(system):
        return system.name
    changed = [f.name for f in fields(system) if f.init and getattr(system, f.name) != _default(f)]
    given = ", ".join(f"{name}={getattr(system, name)!r}" for name in changed)
    return f"{system.name}({given})" if given else system.name


def same_stack(said: Sequence[str], systems: Sequence[System] | None = None) -> list[System]:
    """The systems that were written so, or those given, which must be the same.

    Raises ValueError for others.
    """
    stack = [one for text in said for one in parse_stack(text)] if systems is None else list(systems)
    if [to_spec(system) for system in stack] != list(said):
        raise ValueError(f"systems={[to_spec(system) for system in stack]} are not the record's, {list(said)}")
    return stack


def visits(num_prompts: int, setup: Setup) -> tuple[Visit, ...]:
    """All prompts with all seeds, in batches, `repeats` times."""
    jobs = [(prompt, seed) for seed in setup.seeds for prompt in range(num_prompts)]
    starts = range(0, len(jobs), setup.batch)
    return tuple(
        Visit(jobs=tuple(jobs[start : start + setup.batch]), first=repeat == 0)
        for repeat in range(setup.repeats)
        for start in starts
    )


def turned(arms: Sequence[Candidate], number: int) -> Iterator[Candidate]:
    """The arms forwards, then backwards, then the same from the next one on: each visit another order."""
    start = number // 2 % len(arms)
    order = (*arms[start:], *arms[:start])
    return iter(order[::-1] if number % 2 else order)


def _default(f: Field[Any]) -> Any:
    return f.default if f.default is not MISSING or f.default_factory is MISSING else f.default_factory()
