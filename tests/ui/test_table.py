"""The terminal's view of a comparison."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from saccade.compare.comparison import Comparison
from saccade.metrics.intervals import Interval
from saccade.ui import table
from saccade.ui.columns import columns, subtitle
from saccade.ui.wording import bounds, duration, memory, share, spell
from tests.ui.made_up import comparison


def printed(made: Comparison, width: int = 200) -> str:
    out = StringIO()
    Console(file=out, width=width).print(table(made))
    return out.getvalue()


def test_floor_and_reference_come_first_and_every_arm_has_a_row() -> None:
    made = comparison(3)
    text = printed(made)
    places = [text.index(f" {arm.label} ") for arm in made.arms]
    assert places == sorted(places)
    assert [arm.role for arm in made.arms[:2]] == ["floor", "reference"]


def test_figures_are_those_of_the_summary() -> None:
    made = comparison(2)
    cells = {column.title: column.cells for column in columns(made)}
    assert cells["density"][2].main == f"{made.arms[2].density:.3f}"
    dense, arm = made.reference.seconds, made.arms[2].seconds
    median = sorted(a / b for a, b in zip(dense, arm, strict=True))[2]
    assert cells["end-to-end speed-up"][2].main == f"{median:.2f} ×"
    assert cells["PSNR"][1].main == "–"


def test_columns_without_any_figure_are_left_out() -> None:
    made = comparison(2)
    titles = [column.title for column in columns(made)]
    assert "LPIPS" not in titles and "kept" in titles
    plain = replace(made, arms=tuple(replace(a, attention=(), drawn=_unjudged(a.drawn)) for a in made.arms))
    titles = [column.title for column in columns(plain)]
    assert not {"attention", "attention speed-up", "efficiency", "kept", "change"} & set(titles)


def test_what_fell_back_is_told_once_per_reason_with_its_sites() -> None:
    assert "clear(radius=7): ran sdpa; flex: no C++ compiler (3 sites)" in printed(comparison(3))


def test_what_was_left_out_is_told() -> None:
    assert "LPIPS is left out: no weights" in printed(comparison(1))


def test_equal_pictures_are_called_identical() -> None:
    made = comparison(1)
    same = tuple(replace(d, fidelity=replace(d.fidelity, psnr=float("inf"))) for d in made.arms[2].drawn)
    made = replace(made, arms=(*made.arms[:2], replace(made.arms[2], drawn=same)))
    cells = {column.title: column.cells for column in columns(made)}
    assert cells["PSNR"][2].main == "identical"


def test_the_subtitle_counts() -> None:
    assert subtitle(comparison(1)) == "2 prompts × 2 seeds · 64×64 px · 20 steps"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (duration(0.0123), "12.3 ms"),
        (duration(4.567), "4.57 s"),
        (duration(200), "3 min 20 s"),
        (spell(0.452, 0.46), "452–460 ms"),
        (spell(0.9, 1.1), "900 ms – 1.1 s"),
        (spell(99, 200), "99 s – 3 min 20 s"),
        (memory(None), "–"),
        (memory(1_500_000_000), "1.5 GB"),
        (share(float("nan")), "–"),
        (share(0.875), "88 %"),
        (bounds(Interval(low=-3, mid=0, high=2, n=4), "+.0f"), "-3 to +2"),
        (bounds(Interval(low=float("nan"), mid=0, high=float("nan"), n=1), ".1f"), ""),
    ],
)
def test_figures_read_well(said: str, text: str) -> None:
    assert said == text


def _unjudged(drawn: tuple) -> tuple:
    return tuple(replace(d, verdict=None) for d in drawn)
