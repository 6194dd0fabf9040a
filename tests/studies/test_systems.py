"""Timing of systems: steps of one plan are one kind, and a run is put together from the kinds as stated."""

import pytest

from saccade.studies.speed import systems
from saccade.studies.speed.systems import StepKind, SystemCases, Timed, kinds, slope, summary, system_row


def test_steps_are_of_one_kind_where_their_plans_are_equal() -> None:
    sparsed = Timed(system="sparsed", options={"skip": 0.2}).make()
    found = kinds(sparsed, SystemCases(steps=20))
    assert found == [StepKind(first=5, again=5, count=1), StepKind(first=6, again=7, count=14)]


def test_finding_and_preparing_are_borne_by_the_sparse_steps() -> None:
    found = [StepKind(first=1, again=1, count=1), StepKind(first=2, again=3, count=4)]
    ms = {"dense": 10.0, "1": 16.0, "2": 4.0, "3": 2.0}
    row = summary(found, ms, {"1": 1.0, "2": 0.1, "3": 0.1})
    assert row["sparse_ms"] == 2 and row["sparse_steps"] == 4 and row["density"] == pytest.approx(0.1)
    assert row["selecting_ms"] == pytest.approx((6 + 2) / 4)
    assert row["speedup"] == 5 and row["speedup_with_selection"] == pytest.approx(10 / 4)
    assert row["efficiency"] == pytest.approx(0.5) and row["efficiency_with_selection"] == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["clear", "sparsed"])
def test_a_case_gives_a_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Timed(system=name, grids={4096: (1, 12, 12)}, options={"radius": 3} if name == "clear" else {"block": 16})
    monkeypatch.setitem(systems.SYSTEMS, name, small)
    (row,) = system_row(name, 4096, SystemCases(heads=2, width=4, steps=8, rounds=1))
    assert 0 < row["density"] < 1 and row["sparse_ms"] > 0 and row["selecting_ms"] >= 0
    assert row["efficiency"] == pytest.approx(row["dense_ms"] / row["sparse_ms"] * row["density"])


def test_linear_time_has_slope_one() -> None:
    rows = [{"tokens": n, "sparse_ms": n / 100} for n in (4096, 16384, 32768)]
    assert slope(rows) == pytest.approx(1) and slope(rows[:1]) is None


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="system='klear' must be one of clear, "):
        SystemCases(systems=("klear",))
    with pytest.raises(ValueError, match="tokens=100 must be one of 4096, 16384, 32768"):
        SystemCases(tokens=(100,))
