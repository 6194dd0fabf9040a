"""Scores of compositions on pictures whose answers are known."""

import numpy as np
import pytest

from saccade.data import scenes
from saccade.metrics import Composite, CompositionJudges, question_score, score_composition
from saccade.metrics.composition import cosine, face_identity, filling, inclusion, similarity
from saccade.metrics.fidelity import Picture

SIDE = 64
THINGS = (
    scenes.Thing(colour="red", shape="circle", size="large", x=0.25, y=0.5),
    scenes.Thing(colour="blue", shape="square", size="large", x=0.75, y=0.5),
)
LEFT = np.tile(np.arange(SIDE) < SIDE // 2, (SIDE, 1))


def picture(*things: scenes.Thing, ground: str = "gray") -> Picture:
    return scenes.render(scenes.Scene(things=things, background=ground), SIDE).astype(np.float32)[None] / 255


def detect(image: Picture, phrase: str) -> np.ndarray | None:
    """By the parser of scenes: "red circle"."""
    seen = (t for t in scenes.parse(image[0]).things if phrase == f"{t.colour} {t.shape}")
    return next((thing.mask for thing in seen), None)


def patches(image: Picture) -> np.ndarray:
    """Mean colours of 8 x 8 patches."""
    return image[0].reshape(8, 8, 8, 8, 3).mean((1, 3))


JUDGES = CompositionJudges(detect=detect, patches=patches)


def entity(phrase: str, region: np.ndarray, *shown: scenes.Thing) -> Composite:
    return Composite(phrase=phrase, region=region, reference=picture(*shown) if shown else None)


def test_inside_and_filled_are_shares_of_the_entity_and_of_the_region() -> None:
    found, region = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    found[:2, :2], region[:2] = True, True
    assert (inclusion(found, region), filling(found, region)) == (100, 50)
    assert (inclusion(region, found), filling(region, found)) == (50, 100)
    assert (inclusion(region, region), filling(region, region)) == (100, 100)
    assert (inclusion(~region, region), filling(~region, region)) == (0, 0)
    assert (inclusion(found & ~found, region), filling(found & ~found, region)) == (0, 0)


def test_a_picture_made_as_asked_has_all_of_its_entities_inside() -> None:
    asked = (entity("red circle", LEFT, THINGS[0]), entity("blue square", ~LEFT, THINGS[1]))
    right = score_composition(picture(*THINGS), asked, JUDGES, background=picture())
    area = 100 * scenes.masks(scenes.Scene(things=THINGS, background="gray"), SIDE).sum((1, 2)) / LEFT.sum()
    assert right.inclusion == 100 and right.filling == pytest.approx(area.mean(), rel=0.05)
    assert right.identity == pytest.approx(100) and right.background == pytest.approx(100, abs=0.5)
    assert right.mean == pytest.approx((100 + right.filling + 100 + right.background) / 4, abs=0.01)


def test_entities_that_changed_places_are_outside() -> None:
    asked = (entity("red circle", ~LEFT), entity("blue square", LEFT))
    swapped = score_composition(picture(*THINGS), asked, JUDGES)
    assert (swapped.inclusion, swapped.filling) == (0, 0)
    assert swapped.identity is None and swapped.background is None and swapped.mean == 0


def test_an_entity_that_is_not_there_scores_nothing() -> None:
    asked = (entity("red circle", LEFT, THINGS[0]), entity("blue square", ~LEFT, THINGS[1]))
    one = score_composition(picture(THINGS[0]), asked, JUDGES)
    assert one.inclusion == 50 and one.identity == pytest.approx(50)


def test_another_background_is_another_score() -> None:
    asked = (entity("red circle", LEFT),)
    same, other = (
        score_composition(
            picture(THINGS[0], ground=ground), asked, JUDGES, background=picture(ground="gray")
        ).background
        for ground in ("gray", "navy")
    )
    assert same is not None and other is not None and same > 99.5 > other


def test_entities_in_the_background_picture_are_left_out_too() -> None:
    asked = (entity("red circle", LEFT),)
    found = score_composition(picture(THINGS[0]), asked, JUDGES, background=picture(THINGS[0]))
    assert found.background == pytest.approx(100)


def test_features_are_pooled_over_patches_that_are_mostly_inside() -> None:
    features, half = np.arange(8.0).reshape(2, 2, 2), np.zeros((4, 4), bool)
    half[:2] = True
    image = np.zeros((1, 4, 4, 3), np.float32)
    found = similarity(image, half, image, ~half, lambda _: features)
    assert found == pytest.approx(100 * cosine(features[0].mean(0), features[1].mean(0)))
    assert similarity(image, half & ~half, image, half, lambda _: features) == 0


def test_the_best_of_several_faces_counts() -> None:
    faces = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert face_identity(faces, np.array([[0.0, 2.0]])) == pytest.approx(100 / np.sqrt(2))
    assert face_identity(faces[:0], faces) == 0 and face_identity(faces, faces[:0]) == 0
    judges = CompositionJudges(detect=detect, faces=lambda image: np.array([[1.0, float(image.mean() > 0.5)]]))
    asked = (Composite(phrase="red circle", region=LEFT, reference=picture(), face=True),)
    assert score_composition(picture(THINGS[0]), asked, judges).identity == pytest.approx(100)


def test_a_question_counts_only_where_its_parents_hold() -> None:
    answers = {1: True, 2: False, 3: True, 4: True}
    assert question_score(answers, {1: (0,), 2: (0,), 3: (2,), 4: (1,)}) == 50
    assert question_score(answers, {}) == 75
    with pytest.raises(ValueError, match="question 9 is a parent without an answer"):
        question_score(answers, {3: (9,)})
    with pytest.raises(ValueError, match="hold no question"):
        question_score({}, {})


@pytest.mark.bad_input
def test_what_cannot_be_scored_is_named() -> None:
    with pytest.raises(ValueError, match="leave nothing to score"):
        score_composition(picture(), (), JUDGES)
    with pytest.raises(ValueError, match="must be bool of one size"):
        inclusion(LEFT, LEFT[:8])
    with pytest.raises(ValueError, match="region holds no pixel"):
        filling(LEFT, LEFT & ~LEFT)
