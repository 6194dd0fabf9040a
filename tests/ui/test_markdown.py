"""Pages that are fill_marks from figures."""

from math import nan

import pytest

from saccade.experiments.claims import verdict
from saccade.metrics.intervals import Interval
from saccade.ui.markdown import fill_marks, markdown_table, signed

PAGE = "a\n<!-- figures: one -->\nold\n<!-- end -->\nb\n<!-- figures: two -->\n<!-- end -->\n"


def test_parts_go_between_their_marks_and_again() -> None:
    page = fill_marks(PAGE, {"one": "1", "two": "2"})
    assert page == "a\n<!-- figures: one -->\n1\n<!-- end -->\nb\n<!-- figures: two -->\n2\n<!-- end -->\n"
    assert fill_marks(page, {"one": "1", "two": "2"}) == page


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no <!-- figures: three -->"):
        fill_marks(PAGE, {"three": "3"})


def test_verdicts_and_signs() -> None:
    cases = {"confirmed": (0.1, 0.2, 0.3), "refuted": (-0.3, -0.2, -0.1), "undecided": (-0.1, 0.1, 0.3)}
    for word, (low, mid, high) in cases.items():
        assert verdict(Interval(low=low, mid=mid, high=high, n=3)) == word
    assert verdict(Interval(low=nan, mid=1.0, high=nan, n=2)) == "undecided"
    assert signed(Interval(low=-0.125, mid=0.5, high=1.0, n=3), 2) == "+0.50 [-0.12, +1.00]"
    assert signed(Interval(low=nan, mid=-0.5, high=nan, n=2), 1) == "-0.5"


def test_table() -> None:
    assert markdown_table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"
