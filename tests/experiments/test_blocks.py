"""Pieces of pages."""

from pathlib import Path

from matplotlib.figure import Figure

from saccade.experiments import Figures, Lines, Note, Results


class Kept(Figures):
    """Keeps the figure itself."""

    def save(self, name: str, figure: Figure, about: str) -> str:
        KEPT.append(figure)
        return about


KEPT: list[Figure] = []


def test_a_note_tells_settings_nested_ones_too() -> None:
    results = Results(device="", date="", versions={}, settings={"steps": 3, "share": 0.05, "train": {"batch": 4}})
    note = Note("{steps} steps of {train[batch]}, {share:.0%} swapped.")
    assert note(results, Kept(folder=Path(), name="")) == "3 steps of 4, 5% swapped."


def test_an_axis_of_whole_numbers_has_no_ticks_between_them() -> None:
    tables = {
        "layers": [{"arm": "a", "layer": layer, "loss": 1.0} for layer in range(4)],
        "times": [{"arm": "a", "t": t / 4, "loss": 1.0} for t in range(4)],
    }
    results = Results(device="", date="", versions={}, tables=tables)
    for table, x in (("layers", "layer"), ("times", "t")):
        Lines(source=f"{table}.loss", x=x, about="")(results, Kept(folder=Path(), name=""))
    whole, parts = (figure.axes[0].get_xticks() for figure in KEPT)
    assert all(float(tick).is_integer() for tick in whole) and not all(float(tick).is_integer() for tick in parts)
