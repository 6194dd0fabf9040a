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
