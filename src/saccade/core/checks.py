"""Checks that options share."""

from collections.abc import Collection


def check_word(known: Collection[str], **named: str) -> None:
    """Raise `ValueError` unless every named value is a known word."""
    for name, value in named.items():
        if value not in known:
            raise ValueError(f"{name}='{value}' is unknown; choose one of {', '.join(known)}")
