"""Checks that options share."""

from collections.abc import Collection
from numbers import Real
from typing import Any


def check_word(known: Collection[str], **named: str) -> None:
    """Raise `ValueError` unless every named value is a known word."""
    for name, value in named.items():
        if value not in known:
            raise ValueError(f"{name}='{value}' is unknown; choose one of {', '.join(known)}")


def check_numbers(**named: float | None) -> None:
    """Raise `ValueError` unless every named value is a number, or None where that is its default."""
    for name, value in named.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise ValueError(f"{name}={value!r} must be a number")


def check_whole(least: int, **named: Any) -> None:
    """Raise `ValueError` unless every named value is a whole number of at least `least`."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def check_sizes(**named: Any) -> None:
    """Raise `ValueError` unless every named value is a whole number of at least 1, or None."""
    for name, value in named.items():
        if value is not None:
            check_whole(1, **{name: value})


def check_truths(**named: Any) -> None:
    """Raise `ValueError` unless every named value is True or False."""
    for name, value in named.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r:.60} must be True or False")


def seeds_of(seeds: Any) -> tuple[int, ...]:
    """One seed or several as a tuple. Raises `ValueError` for none, and for what is no whole number from 0."""
    found: tuple[Any, ...] = tuple(seeds) if isinstance(seeds, list | tuple | range) else (seeds,)  # pyright: ignore
    if not found or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in found):
        raise ValueError(f"seeds={seeds!r:.60} must be a whole number of at least 0, or several, one at least")
    return found
