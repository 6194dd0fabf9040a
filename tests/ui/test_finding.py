"""What a comparison says it found."""

from dataclasses import replace

import pytest

from saccade.compare.comparison import ArmResult, Comparison
from saccade.compare.finding import finding, outcome
from saccade.compare.summary import summarise
from tests.ui.made_up import comparison


def judged(arm: ArmResult, kept: int, speedup: float, dense: ArmResult) -> ArmResult:
    """The arm with its first `kept` pictures keeping everything, at a fixed speed-up."""
    drawn = tuple(replace(d, verdict={"all": float(i < kept)}) for i, d in enumerate(arm.drawn))
    return replace(arm, drawn=drawn, seconds=tuple(s / speedup for s in dense.seconds))


def made(*arms: tuple[int, float], dense: int = 3) -> Comparison:
    """Arms by captions kept of four and speed-up."""
    plain = comparison(len(arms))
    floor, reference, *others = plain.arms
    reference = judged(reference, dense, 1.0, reference)
    found = [judged(arm, *given, reference) for arm, given in zip(others, arms, strict=True)]
    return replace(plain, arms=(judged(floor, dense, 0.5, reference), reference, *found))


def test_an_arm_is_what_it_is_good_for() -> None:
    rows = summarise(made((3, 1.5), (4, 0.5), (3, 0.9), (2, 3.0), (4, 2.0)))
    assert [outcome(row) for row in rows] == [
        None, None, "faster", "keeps more", "no gain", "loses captions", "faster",
    ]  # fmt: skip


def test_one_sentence_names_what_pays_first() -> None:
    text = finding(made((3, 1.5), (4, 0.5), (3, 0.9), (2, 3.0)))
    assert text == (
        "clear(radius=8) draws 1.50 times as fast as dense attention and keeps 3 of 4 captions (dense 3); "
        "clear(radius=7) takes 2.00 times as long and keeps 4 of 4 captions (dense 3); "
        "clear(radius=5) costs captions; clear(radius=6) gains nothing."
    ).replace("clear(radius=8)", "Clear(radius=8)", 1)


def test_it_says_so_where_nothing_pays() -> None:
    text = finding(made((2, 3.0), (1, 3.0)))
    assert text == (
        "No arm is surely faster than dense attention and as good; clear(radius=8), clear(radius=7) cost captions."
    )


@pytest.mark.parametrize("speedup", [1.5, 0.5])
def test_speed_alone_decides_where_captions_are_not_judged(speedup: float) -> None:
    some = made((4, speedup))
    arms = tuple(replace(arm, drawn=tuple(replace(d, verdict=None) for d in arm.drawn)) for arm in some.arms)
    row = summarise(replace(some, arms=arms))[-1]
    assert outcome(row) == ("faster" if speedup > 1 else "no gain")
    assert ("dB from its pictures" in finding(replace(some, arms=arms))) == (speedup > 1)
