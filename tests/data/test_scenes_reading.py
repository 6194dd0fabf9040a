"""The parser reads back what was drawn, and the judge keeps a caption to its word."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from saccade.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    Parsed,
    Prompt,
    Scene,
    Split,
    Thing,
    Want,
    describe,
    judge,
    masks,
    parse,
    rates,
    render,
    sample,
)

seeds = st.integers(0, 2**32 - 1)


def worn(picture: np.ndarray, rng: np.random.Generator, *, blur: float, noise: float) -> np.ndarray:
    soft = gaussian_filter(picture.astype(float), (blur, blur, 0)) + rng.normal(0, noise, picture.shape)
    return np.clip(np.round(soft), 0, 255).astype(np.uint8)


def names(scene: Scene | Parsed) -> list[tuple[str | None, ...]]:
    return sorted((t.colour or "", t.shape or "", t.size or "", t.place) for t in scene.things)


def thing(*, colour: str = "red", shape: str = "circle", size: str = "large", x: float = 0.5, y: float = 0.5) -> Thing:
    return Thing(colour=colour, shape=shape, size=size, x=x, y=y)


PAIR = Scene(things=(thing(x=0.2), thing(colour="blue", shape="square", size="small", x=0.8)), background="gray")
PROMISE = Prompt(
    text="a large red circle at the left left of a small blue square at the right on a gray background",
    wants=(
        Want(colour="red", shape="circle", size="large", place="left"),
        Want(colour="blue", shape="square", size="small", place="right"),
    ),
    background="gray",
    relations=((0, "left of", 1),),
)


@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize(
    ("size", "blur", "noise", "number"),
    [(48, 0, 0, 60), (64, 0, 0, 150), (64, 0.7, 6, 150), (128, 0.7, 6, 40), (256, 1.0, 12, 10)],
)
def test_at_least_99_of_100_things_are_read_right(
    size: int, blur: float, noise: float, number: int, split: Split
) -> None:
    rng, right, total, grounds = np.random.default_rng(7), 0, 0, 0
    for _ in range(number):
        scene = sample(rng, split=split)
        seen = parse(worn(render(scene, size), rng, blur=blur, noise=noise))
        total += max(len(scene.things), len(seen.things))
        right += len(set(names(scene)) & set(names(seen)))
        grounds += seen.background == scene.background
    assert right >= 0.99 * total and grounds == number


@given(seed=seeds)
def test_place_and_mask_are_measured_to_half_a_pixel(seed: int) -> None:
    scene = sample(np.random.default_rng(seed))
    found = {(seen.colour, seen.shape): seen for seen in parse(render(scene)).things}
    for truth, mask in zip(scene.things, masks(scene, 64), strict=True):
        seen = found[truth.colour, truth.shape]
        assert np.hypot(seen.x - truth.x, seen.y - truth.y) < 0.5 / 64
        assert np.abs(np.subtract(seen.box, truth.box)).max() < 2.2 / 64
        assert (seen.mask & mask).sum() / (seen.mask | mask).sum() > 0.97


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_colour_of_every_shape_is_read_on_every_background(shape: str, background: str) -> None:
    for colour in COLOURS:
        scene = Scene(things=(thing(colour=colour, shape=shape, size="small"),), background=background)
        seen = parse(render(scene))
        assert names(seen) == names(scene) and seen.background == background


def test_bytes_floats_and_pil_images_read_alike() -> None:
    picture = render(PAIR, 96)
    read = parse(picture)
    assert parse(picture / 255) == read == parse(Image.fromarray(picture))
    assert parse((picture / 255).astype(np.float16)) == pytest.approx(read) or names(parse(picture / 255)) == names(
        read
    )


def test_an_empty_picture_holds_nothing() -> None:
    assert parse(np.full((64, 64, 3), BACKGROUNDS["navy"], np.uint8)) == Parsed(things=(), background="navy")


def test_an_unknown_background_is_none() -> None:
    assert parse(np.full((64, 64, 3), COLOURS["red"], np.uint8)) == Parsed(things=(), background=None)


def test_an_unknown_colour_is_a_thing_without_colour() -> None:
    picture = render(Scene(things=(), background="black")).copy()
    picture[20:40, 20:40] = (240, 240, 240)
    (seen,) = parse(picture).things
    assert (seen.colour, seen.shape, seen.place) == (None, "square", "center")


def test_an_unknown_outline_is_a_thing_without_shape() -> None:
    picture = render(Scene(things=(), background="black")).copy()
    picture[30:34, 4:60] = COLOURS["green"]
    (seen,) = parse(picture).things
    assert (seen.colour, seen.shape) == ("green", None)


def test_a_thing_far_too_large_has_no_size() -> None:
    picture = render(Scene(things=(), background="black")).copy()
    picture[10:54, 10:54] = COLOURS["green"]
    (seen,) = parse(picture).things
    assert (seen.shape, seen.size) == ("square", None)


def test_specks_are_dropped_and_larger_spots_are_things() -> None:
    picture = render(Scene(things=(), background="black")).copy()
    picture[10:12, 10:12] = COLOURS["cyan"]
    assert parse(picture).things == ()
    picture[40:45, 40:45] = COLOURS["cyan"]
    assert len(parse(picture).things) == 1


def test_specks_join_the_thing_they_touch_and_no_other() -> None:
    picture = render(Scene(things=(thing(shape="square"),), background="black")).copy()
    whole = masks(Scene(things=(thing(shape="square"),), background="black"), 64)[0]
    picture[24:26, 30:33] = COLOURS["cyan"]  # on the square's rim
    picture[4:6, 4:6] = COLOURS["red"]  # far away
    (seen,) = parse(picture).things
    assert seen.colour == "red" and np.array_equal(seen.mask, whole)


def test_touching_things_of_two_colours_stay_two() -> None:
    scene = Scene(
        things=(thing(shape="square", x=0.369), thing(colour="cyan", shape="square", x=0.63)), background="white"
    )
    assert names(parse(render(scene))) == names(scene)


def test_noise_alone_is_read_without_failing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert not any(seen.shape == "cross" and seen.fit > 0.9 for seen in parse(picture).things)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((3, 64, 64), np.uint8), r"image of shape \(3, 64, 64\) must be square RGB"),
        (np.zeros((64, 48, 3), np.uint8), r"image of shape \(64, 48, 3\) must be square RGB"),
        (np.zeros((64, 64), np.uint8), r"image of shape \(64, 64\) must be square RGB"),
        (np.zeros((32, 32, 3), np.uint8), "image of side 32 must be 48 to 512 pixels; resize"),
        (np.zeros((600, 600, 3), np.uint8), "image of side 600 must be 48 to 512 pixels"),
        (np.zeros((64, 64, 3), np.int64), r"image of dtype int64 must be uint8, or floats in \[0, 1\]"),
        (np.full((64, 64, 3), 2.0), r"lies in \[2, 2\] and must lie in \[0, 1\]"),
        (np.full((64, 64, 3), np.nan), r"lies in \[nan, nan\] and must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_picture_is_refused(picture: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(picture)


@given(seed=seeds, split=st.sampled_from(["train", "held-out"]), size=st.sampled_from([48, 64, 112]))
def test_a_true_caption_is_judged_all_right(seed: int, split: Split, size: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample(rng, split=split)
    verdict = judge(render(scene, size), describe(scene, rng))
    assert verdict.all and verdict.count and verdict.colour == verdict.shape == 1


def test_a_kept_promise_scores_one_in_every_field() -> None:
    assert set(rates([judge(render(PAIR), PROMISE)]).values()) == {1.0}


@pytest.mark.parametrize(
    ("field", "change"),
    [("colour", {"colour": "cyan"}), ("shape", {"shape": "cross"}), ("size", {"size": "small"}), ("place", {"y": 0.2})],
)
def test_one_wrong_thing_fails_its_field_alone(field: str, change: dict[str, object]) -> None:
    scene = replace(PAIR, things=(replace(PAIR.things[0], **change), PAIR.things[1]))
    found = judge(render(scene), PROMISE)
    kept = {name: getattr(found, name) for name in ("colour", "shape", "size", "place")}
    assert kept == {name: 0.5 if name == field else 1.0 for name in kept}
    assert found.count and not found.all
    assert found.relation == (0.0 if field in ("colour", "shape") else 1.0)


def test_swapped_colours_are_not_forgiven() -> None:
    a, b = PAIR.things
    found = judge(render(replace(PAIR, things=(replace(a, colour="blue"), replace(b, colour="red")))), PROMISE)
    assert found.colour + found.shape == 1 and found.relation == 0 and not found.all


def test_swapped_places_break_the_relation() -> None:
    a, b = PAIR.things
    found = judge(render(replace(PAIR, things=(replace(a, x=0.8), replace(b, x=0.2)))), PROMISE)
    assert found.colour == found.shape == 1 and found.place == found.relation == 0 and not found.all


def test_a_wrong_background_fails() -> None:
    found = judge(render(replace(PAIR, background="white")), PROMISE)
    assert found.background == 0 and found.place == 1 and not found.all


def test_a_missing_thing_fails_count_and_keeps_nothing() -> None:
    found = judge(render(replace(PAIR, things=PAIR.things[:1])), PROMISE)
    assert not found.count and not found.all
    assert found.colour == found.shape == found.size == found.place == 0.5 and found.relation == 0


def test_an_extra_thing_fails_count_alone() -> None:
    extra = thing(colour="green", shape="cross", size="small", y=0.2)
    found = judge(render(replace(PAIR, things=(*PAIR.things, extra))), PROMISE)
    assert not found.count and not found.all
    assert found.colour == found.shape == found.size == found.place == found.relation == found.background == 1


def test_what_is_not_promised_is_not_scored() -> None:
    bare = Prompt(text="a red circle", wants=(Want(colour="red", shape="circle"),))
    found = judge(render(Scene(things=PAIR.things[:1], background="navy")), bare)
    assert found.all and all(isnan(getattr(found, name)) for name in ("size", "place", "background", "relation"))
    assert isnan(rates([found])["place"]) and rates([found])["all"] == 1


def test_rates_average_over_the_captions_that_promise() -> None:
    bare = Prompt(text="a red circle", wants=(Want(colour="red", shape="circle"),))
    alone = Scene(things=PAIR.things[:1], background="navy")
    mean = rates([judge(render(alone), bare), judge(render(PAIR), PROMISE), judge(render(alone), PROMISE)])
    assert mean["background"] == 0.5 and mean["place"] == 0.75 and mean["all"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_needs_a_clear_distance(relation: str) -> None:
    along_x, along_y = RELATIONS[relation]
    bare = tuple(replace(want, place=None) for want in PROMISE.wants)
    asked = Prompt(text="", wants=bare, relations=((0, relation, 1),))

    def shown(distance: float) -> float:
        a = thing(x=0.5 + along_x * distance / 2, y=0.5 + along_y * distance / 2)
        aside = (0.0, 0.33) if along_x else (0.33, 0.0)
        b = thing(colour="blue", shape="square", size="small", x=1 - a.x + aside[0], y=1 - a.y + aside[1])
        return judge(render(Scene(things=(a, b), background="gray")), asked).relation

    assert [shown(distance) for distance in (-0.3, 0.05, 0.15)] == [0, 0, 1]
