"""Drawn scanpaths: a number for each fixation, discs by duration, boxes, maps of any resolution."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from saccade.core.scanpath import Scanpath
from saccade.ui.scanpaths import draw_saliency, draw_scanpath, scanpath_figure

PICTURE = np.full((1, 60, 80, 3), 0.5)
POINTS = np.array([[10.0, 20.0], [70.0, 50.0], [40.0, 5.0]])
BOXES = np.array([[0, 0, 30, 30], [40, 40, 80, 60]])


def axes() -> Axes:
    return Figure().subplots()


def discs(ax: Axes) -> PathCollection:
    (found,) = (each for each in ax.collections if isinstance(each, PathCollection))
    return found


def test_every_fixation_has_its_number_at_its_place() -> None:
    draw_scanpath(ax := axes(), PICTURE, POINTS, "somebody")
    assert [(text.get_text(), text.xy) for text in ax.texts] == [
        (str(i), tuple(point)) for i, point in enumerate(POINTS.tolist(), 1)
    ]
    np.testing.assert_array_equal(discs(ax).get_offsets(), POINTS)
    assert ax.get_title() == "somebody"


def test_discs_grow_with_the_duration_and_are_equal_where_it_is_unknown() -> None:
    draw_scanpath(timed := axes(), PICTURE, Scanpath(points=POINTS, durations=np.array([0.0, 150.0, 9000.0])))
    assert discs(timed).get_sizes().tolist() == [20, 100, 340]
    draw_scanpath(plain := axes(), PICTURE, POINTS)
    assert len(set(discs(plain).get_sizes().tolist())) == 1


def test_boxes_are_outlined() -> None:
    draw_scanpath(ax := axes(), PICTURE, POINTS, boxes=BOXES)
    found = [each for each in ax.patches if isinstance(each, Rectangle)]
    assert [(*each.get_xy(), each.get_width(), each.get_height()) for each in found] == [
        (0, 0, 30, 30),
        (40, 40, 40, 20),
    ]


def test_a_map_of_any_resolution_covers_the_picture() -> None:
    draw_saliency(ax := axes(), PICTURE, np.eye(4))
    assert [tuple(image.get_extent()) for image in ax.images] == [(-0.5, 79.5, 59.5, -0.5)] * 2


def test_a_figure_has_a_panel_for_each_path_and_map_and_can_be_saved() -> None:
    figure = scanpath_figure(PICTURE, {"a": POINTS, "b": POINTS[:1]}, {"saliency": np.eye(3)}, BOXES)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "saliency"]
    figure.savefig(kept := BytesIO(), format="svg")
    assert len(kept.getvalue()) > 1000


@pytest.mark.bad_input
def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="paths and saliency are empty"):
        scanpath_figure(PICTURE, {})
    with pytest.raises(ValueError, match="points has no number in rows"):
        draw_scanpath(axes(), PICTURE, np.full((2, 2), np.nan))
