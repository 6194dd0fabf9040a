"""Checks that configurations share."""


def check_share(**shares: float) -> None:
    """Raise `ValueError` unless every named value is in [0, 1]."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} must be in [0, 1], a share of the run or of the draws")


def check_positive(**values: float | None) -> None:
    """Raise `ValueError` unless every named value is above zero or absent."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value} must be above 0")
