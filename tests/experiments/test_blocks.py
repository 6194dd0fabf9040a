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


def test_an_arm_has_one_colour_in_all_panels_and_a_line_in_the_legend() -> None:
    arms = {"all": ("standard", "mlp", "approx"), "some": ("approx", "mlp")}
    rows = [
        {"arm": arm, "layers": layers, "step": step, "loss": float(len(arm))}
        for layers, names in arms.items()
        for arm in names
        for step in range(2)
    ]
    results = Results(device="", date="", versions={}, tables={"curves": rows})
    Lines(source="curves.loss", x="step", panels="layers", about="")(results, Kept(folder=Path(), name=""))
    left, right = KEPT[-1].axes
    colours = dict(zip(arms["all"], (line.get_color() for line in left.lines), strict=True))
    assert len({*colours.values()}) == 3
    assert [line.get_color() for line in right.lines] == [colours[arm] for arm in arms["some"]]
    legend = right.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == list(arms["all"])
