"""What decides a claim: margins within a bound, ratios pair by pair, and how evidence stands on a page."""

from math import inf, nan
from pathlib import Path

import pytest

from saccade.experiments import ArmTable, Claim, Column, Figures, Results, Verdicts, margin
from saccade.experiments.claims import ratio, verdict
from saccade.metrics.intervals import Interval, affine

FIGURES = Figures(folder=Path("unused"), name="test")


def interval(low: float, mid: float, high: float) -> Interval:
    return Interval(low=low, mid=mid, high=high, n=9)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (interval(-0.02, 0.01, 0.04), "confirmed"),
        (interval(0.02, 0.03, 0.04), "confirmed"),
        (interval(-0.02, 0.01, 0.06), "undecided"),
        (interval(-0.07, -0.05, -0.04), "undecided"),
        (interval(0.06, 0.07, 0.08), "refuted"),
        (interval(-0.08, -0.07, -0.06), "refuted"),
        (interval(-inf, 0.0, inf), "undecided"),
        (interval(nan, 0.0, nan), "undecided"),
    ],
)
def test_a_margin_is_above_zero_where_the_whole_interval_is_within_the_bound(found: Interval, word: str) -> None:
    assert verdict(margin(found, 0.05)) == word


def test_a_margin_says_how_far_within_the_bound() -> None:
    found = margin(interval(-0.01, 0.02, 0.03), 0.05)
    assert (found.low, found.mid, found.high, found.n) == pytest.approx((0.02, 0.03, 0.05, 9))


def test_affine_swaps_the_ends_of_a_turned_interval() -> None:
    assert affine(interval(1, 2, 4), -1, 10) == interval(6, 8, 9)
    assert affine(interval(1, 2, 4), 1000) == interval(1000, 2000, 4000)


def doubled() -> Results:
    """Losses of `b` are twice those of `a` by every seed."""
    rows = [{"arm": arm, "seed": seed, "loss": (seed + 1) * k} for seed in range(3) for arm, k in (("a", 1), ("b", 2))]
    return Results(device="cpu", date="", versions={}, tables={"runs": rows})


def test_a_ratio_is_taken_pair_by_pair() -> None:
    assert ratio(doubled(), "runs.loss", "b", "a") == Interval(low=2, mid=2, high=2, n=3)
    table = ArmTable(columns=(Column(source="runs.loss", title="of a's", against="a", ratio=True),))
    assert table(doubled(), FIGURES).splitlines()[2:] == ["| a |  |", "| b | 2 [2, 2] |"]


def test_evidence_stands_beside_the_verdict_in_place_of_the_difference() -> None:
    claim = Claim(text="b is larger", measure=lambda found: ratio(found, "runs.loss", "b", "a"))
    shown = Claim(text="b is larger", measure=claim.measure, evidence=lambda found: "twice")
    assert Verdicts((claim, shown))(doubled(), FIGURES) == (
        "- b is larger: **confirmed**.\n- b is larger: **confirmed** (twice)."
    )
    assert Verdicts((claim, shown), differences=True)(doubled(), FIGURES) == (
        "- b is larger: **confirmed** (+2.0000 [+2.0000, +2.0000]).\n- b is larger: **confirmed** (twice)."
    )
