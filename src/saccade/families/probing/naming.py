"""Patterns of names: `blocks.*.attn` for all modules alike, as few as tell them from the others."""

from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase


def patterns(names: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    """The most general patterns that match these names and none of the others."""
    found: list[str] = []
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in found):
            found.append(next(p for p in _general_first(name) if not any(fnmatchcase(o, p) for o in others)))
    return tuple(found)


def starred(name: str) -> str:
    """The name with a star for every number."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _general_first(name: str) -> Iterator[str]:
    """All numbers starred, then all but the first, the first two ..., last the name itself."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    for kept in range(len(numbers) + 1):
        stars = set(numbers[kept:])
        yield ".".join("*" if i in stars else part for i, part in enumerate(parts))
