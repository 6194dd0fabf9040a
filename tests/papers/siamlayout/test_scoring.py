"""Scores of layouts: by a scripted judge, and by the exact parser on rendered scenes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data import scenes
from saccade.papers.siamlayout import captioned, read_layout, says_yes, score_layout
from saccade.papers.siamlayout.boxes import overlap
from saccade.papers.siamlayout.scenes import bare_caption, boxed_scenes, layout_of
from saccade.papers.siamlayout.scoring import ATTRIBUTES, crop

PICTURE = np.zeros((20, 10, 3))
TWO = captioned(["a cat", "a dog"], [(0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=40, max_size=40), st.integers(1, 3))
def test_scores_count_boxes_alike_and_no_attribute_exceeds_spatial(answers: list[bool], pictures: int) -> None:
    said = iter(answers)
    layouts = [TWO, TWO[:1], TWO][:pictures]
    found = score_layout([PICTURE] * pictures, layouts, lambda shown, question: next(said))
    boxes = sum(map(len, layouts))
    assert found.boxes == boxes and round(found.spatial * boxes, 9) == round(found.spatial * boxes)
    assert all(0 <= getattr(found, name) <= found.spatial <= 1 for name in ATTRIBUTES)


def test_attributes_are_asked_only_where_the_subject_is_there() -> None:
    asked: list[str] = []

    def judge(shown: np.ndarray, question: str) -> bool:
        asked.append(question)
        return "cat" in question and "texture" not in question

    found = score_layout([PICTURE], [TWO], judge, details=[["a gray cat", "a brown dog"]])
    assert (found.spatial, found.colour, found.texture, found.shape) == (0.5, 0.5, 0.0, 0.5)
    assert len(asked) == 5 and '"a cat"' in asked[0] and '"a gray cat"' in asked[1] and '"a dog"' in asked[4]


def test_crops_are_rounded_down_and_empty_ones_refused() -> None:
    assert crop(PICTURE, (0.0, 0.0, 0.59, 0.99)).shape == (19, 5, 3)
    with pytest.raises(ValueError, match="covers no pixel of a picture of 20 x 10"):
        crop(PICTURE, (0.01, 0.0, 0.05, 1.0))
    with pytest.raises(ValueError, match="1 pictures, 2 layouts and 2 details must be as many"):
        score_layout([PICTURE], [TWO, TWO], lambda shown, question: True)
    with pytest.raises(ValueError, match="layouts hold no box"):
        score_layout([PICTURE], [[]], lambda shown, question: True)


def test_answers_are_read_as_the_benchmark_does() -> None:
    assert says_yes("Yes, it is.") and says_yes("I say yes") and not says_yes("YES") and not says_yes("No")


def test_a_rendered_scene_keeps_its_own_layout() -> None:
    known = boxed_scenes(12, seed=3)
    for scene, picture, layout in zip(known.scenes, known.pictures(128), known.layouts, strict=True):
        found = read_layout(picture, scene)
        assert found.iou > 0.85 and found.centre < 0.02 and found.there == found.placed == found.colour == 1
        assert len(layout) == len(scene.things) == len(captioned([b.caption for b in layout], [b.box for b in layout]))


def test_what_stands_elsewhere_or_is_missing_is_seen() -> None:
    (scene,) = boxed_scenes(1, seed=4, things=(1,)).scenes
    thing = scene.things[0]
    moved = replace(scene, things=(replace(thing, x=1 - thing.x if abs(thing.x - 0.5) > 0.1 else 0.2),))
    found = read_layout(scenes.render(moved, 128), scene)
    assert found.iou == 0 and found.placed == 0 and found.there == 1 and found.centre > 0.25
    other = "red" if thing.colour != "red" else "blue"
    found = read_layout(scenes.render(replace(scene, things=(replace(thing, colour=other),)), 128), scene)
    assert (found.iou, found.centre, found.there, found.colour) == (0, 1, 0, 0)
    nothing = read_layout(scenes.render(replace(scene, things=()), 128), scene)
    assert nothing.there == 0 and nothing.colour == 0


def test_overlap_of_boxes() -> None:
    assert overlap((0, 0, 1, 1), (0, 0, 1, 1)) == 1
    assert overlap((0, 0, 1, 1), (0.5, 0, 1.5, 1)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)) == 0


def test_captions_of_scenes() -> None:
    (scene,) = boxed_scenes(1, seed=1, things=(2,), places=False).scenes
    assert bare_caption(scene).count(" and ") == 1 and bare_caption(scene).endswith(
        f"on a {scene.background} background"
    )
    assert [each.caption.split()[1] for each in layout_of(scene)] == [thing.size for thing in scene.things]
