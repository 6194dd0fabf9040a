"""Configurations from the command line."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from saccade.train.config import override


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    sides: tuple[int, ...] = (64,)
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "x"
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.inner.rate < 0:
            raise ValueError(f"rate={self.inner.rate} must not be negative")


def test_settings_reach_nested_fields_and_the_last_wins() -> None:
    settings = ["inner.rate=1e-3", "inner.sides=64,128", "fast=true", "kind=b", "inner.rate=0.5", "inner.end=2"]
    assert override(Outer(), settings) == Outer(fast=True, kind="b", inner=Inner(rate=0.5, sides=(64, 128), end=2.0))


def test_none_empties_an_optional_field() -> None:
    assert override(Outer(inner=Inner(end=3.0)), ["inner.end=none"]).inner.end is None


def test_the_given_configuration_stays_as_it_was() -> None:
    config = Outer()
    override(config, ["name=y"])
    assert config == Outer()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("inner.rate", "has no '='"),
        ("inner.rat=1", "'inner.rat' names no setting: no field 'rat' among rate, sides, end"),
        ("name.rate=1", "no field 'rate' among none"),
        ("inner.rate=fast", "inner.rate=fast cannot be read; give float"),
        ("fast=yes", "give bool"),
        ("kind=c", "give a or b"),
        ("inner.rate=-1", "rate=-1.0 must not be negative"),
    ],
)
def test_a_wrong_setting_says_what_to_write(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Outer(), [setting])
