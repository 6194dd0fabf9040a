"""Scenes: what may be drawn, how it is drawn, what is said of it, and what is kept out of training."""

from dataclasses import FrozenInstanceError, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Prompt,
    Scene,
    Split,
    Thing,
    describe,
    masks,
    prompts,
    render,
    sample,
    split_of,
    vocabulary,
)
from saccade.data.scenes.raster import coverage
from saccade.data.scenes.shapes import area, centroid_drop
from saccade.data.scenes.words import MAX_WORDS, holds

seeds = st.integers(0, 2**32 - 1)
splits = st.sampled_from(["train", "held-out"])


def scene_of(seed: int, split: Split = "train", count: int | None = None) -> Scene:
    return sample(np.random.default_rng(seed), count=count, split=split)


def thing(*, colour: str = "red", shape: str = "circle", size: str = "large", x: float = 0.5, y: float = 0.5) -> Thing:
    return Thing(colour=colour, shape=shape, size=size, x=x, y=y)


def test_colours_keep_apart_from_each_other_and_from_backgrounds() -> None:
    pairs = [*combinations(COLOURS.values(), 2), *((c, b) for c in COLOURS.values() for b in BACKGROUNDS.values())]
    assert min(np.linalg.norm(np.subtract(a, b)) for a, b in pairs) >= 114


def test_places_name_the_nine_cells() -> None:
    assert set(PLACES) == {
        *("top left", "top", "top right"),
        *("left", "center", "right"),
        *("bottom left", "bottom", "bottom right"),
    }
    assert all(thing(x=x, y=y).place == name for name, (x, y) in PLACES.items())


@pytest.mark.parametrize("shape", SHAPES)
def test_area_and_centre_of_mass_are_those_of_the_drawing(shape: str) -> None:
    cover = coverage(shape, 0.5, 0.4, 0.2, 400)
    grid = (np.arange(400) + 0.5) / 400
    assert cover.sum() / 400**2 == pytest.approx(area(shape) * 0.2**2, rel=2e-3)
    assert cover.sum(0) @ grid / cover.sum() == pytest.approx(0.5, abs=1e-4)
    assert cover.sum(1) @ grid / cover.sum() == pytest.approx(0.4 + 0.2 * centroid_drop(shape), abs=1e-4)


@given(seed=seeds, split=splits)
def test_the_seed_determines_scene_caption_and_picture(seed: int, split: Split) -> None:
    first, second = (np.random.default_rng(seed) for _ in range(2))
    a, b = sample(first, split=split), sample(second, split=split)
    assert a == b and describe(a, first) == describe(b, second)
    assert np.array_equal(render(a), render(b))


@given(seed=seeds, split=splits, count=st.integers(1, 3))
def test_things_differ_in_name_and_never_touch(seed: int, split: Split, count: int) -> None:
    scene = scene_of(seed, split, count)
    assert len({(t.colour, t.shape) for t in scene.things}) == len(scene.things) == count
    for a, b in combinations(scene.boxes(), 2):
        assert max(*(b[:2] - a[2:]), *(a[:2] - b[2:])) >= 0.03  # along x or along y
    assert scene.boxes().min() > 0 and scene.boxes().max() < 1


def test_every_word_and_count_is_drawn() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample(rng) for _ in range(400)]
    things = [t for scene in scenes for t in scene.things]
    assert {t.colour for t in things} == set(COLOURS) and {t.shape for t in things} == set(SHAPES)
    assert {t.size for t in things} == set(SIZES) and {t.place for t in things} == set(PLACES)
    assert {s.background for s in scenes} == set(BACKGROUNDS) and {len(s.things) for s in scenes} == {1, 2, 3}


@given(seed=seeds, size=st.sampled_from([32, 64, 97]))
def test_masks_hold_exactly_the_pixels_drawn_more_than_half(seed: int, size: int) -> None:
    scene = scene_of(seed)
    picture, ground = render(scene, size).astype(float), np.array(BACKGROUNDS[scene.background])
    owned = masks(scene, size)
    assert owned.sum(0).max() == 1
    for t, mask in zip(scene.things, owned, strict=True):
        x0, y0, x1, y1 = (round(edge * size) for edge in t.box)
        tone = np.array(COLOURS[t.colour]) - ground
        share = ((picture - ground) @ tone / (tone @ tone))[y0:y1, x0:x1]
        clear = np.abs(share - 0.5) > 0.01  # bytes are rounded
        assert np.array_equal((share > 0.5)[clear], mask[y0:y1, x0:x1][clear])
        assert mask.sum() == mask[y0:y1, x0:x1].sum()


@given(seed=seeds, size=st.sampled_from([64, 200]))
def test_boxes_hold_the_masks_tightly(seed: int, size: int) -> None:
    scene = scene_of(seed)
    for t, mask in zip(scene.things, masks(scene, size), strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / size
        pixels = (1.1, 2.2, 1.1, 0.6) if t.shape == "triangle" else (0.6,) * 4  # its tips are narrower than a pixel
        assert np.all(np.abs(seen - t.box) * size <= pixels)


def test_a_later_thing_lies_in_front() -> None:
    behind, front = thing(colour="red"), thing(colour="blue", size="small")
    scene = Scene(things=(behind, front), background="black")
    ring, disc = masks(scene, 64)
    assert not (ring & disc).any() and ring.any() and disc[32, 32]
    assert tuple(render(scene)[32, 32]) == COLOURS["blue"] and tuple(render(scene)[32, 24]) == COLOURS["red"]


def test_the_same_scene_at_four_times_the_size_averages_to_the_small_picture() -> None:
    scene = scene_of(4, count=3)
    large = render(scene, 256).reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(large - render(scene, 64)).max() < 64  # of 255, at corners
    assert np.abs(large - render(scene, 64)).mean() < 0.3


@given(seed=seeds, split=splits)
def test_captions_are_true(seed: int, split: Split) -> None:
    rng = np.random.default_rng(seed)
    scene = sample(rng, split=split)
    prompt = describe(scene, rng)
    for want, t in zip(prompt.wants, scene.things, strict=True):
        assert (want.colour, want.shape) == (t.colour, t.shape)
        assert want.size in (None, t.size) and want.place in (None, t.place)
    assert prompt.background in (None, scene.background)
    for i, relation, j in prompt.relations:
        a, b = scene.things[i], scene.things[j]
        assert holds(relation, (a.x, a.y), (b.x, b.y), margin=0.2)


@given(seed=seeds)
def test_captions_say_what_they_promise_and_no_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt = describe(sample(rng), rng)
    said = prompt.text.replace("left of", "LEFT").replace("right of", "RIGHT").split()
    assert {w for w in said if w in COLOURS} == {w.colour for w in prompt.wants}
    assert sum(w in SHAPES for w in said) == len(prompt.wants)
    assert sum(w in SIZES for w in said) == sum(w.size is not None for w in prompt.wants)
    assert said.count("at") == sum(w.place is not None for w in prompt.wants)
    assert ("background" in said) == (prompt.background is not None)
    assert any(w in said for w in ("LEFT", "RIGHT", "above", "below")) == bool(prompt.relations)


def test_captions_use_few_words_of_the_vocabulary_only() -> None:
    texts = [p.text.split() for split in ("train", "held-out") for p in prompts(150, seed=5, split=split)]
    assert max(map(len, texts)) <= MAX_WORDS
    assert {word for text in texts for word in text} <= set(vocabulary())
    assert list(vocabulary()) == sorted(set(vocabulary())) and all(word.isalpha() for word in vocabulary())


def test_wording_is_as_documented() -> None:
    scene = Scene(
        things=(thing(colour="orange", x=0.2), thing(colour="blue", shape="square", x=0.8)), background="gray"
    )
    texts = {describe(scene, np.random.default_rng(seed)).text for seed in range(200)}
    assert {
        "an orange circle and a blue square",
        "an orange circle left of a blue square",
        "a large orange circle and a large blue square on a gray background",
    } <= texts


def test_a_relation_of_three_holds_for_each_pair_it_may_be_read_to_join() -> None:
    three = [p for p in prompts(300, seed=1, count=3) if p.relations]
    assert {frozenset((i, j) for i, _, j in p.relations) for p in three} == {
        frozenset({(0, 1), (0, 2)}),
        frozenset({(0, 2), (1, 2)}),
    }


def test_prompts_begin_alike_for_every_n() -> None:
    assert prompts(20, seed=3)[:7] == prompts(7, seed=3) != prompts(7, seed=4)


def content(prompt: Prompt) -> list[frozenset[object]]:
    kinds = [(w.colour, w.shape) for w in prompt.wants]
    return [frozenset(pair) for pair in combinations(kinds, 2)] if len(kinds) > 1 else [frozenset(prompt.wants)]


def test_no_held_out_caption_or_pair_occurs_in_training() -> None:
    train, held_out = prompts(2000, seed=0), prompts(300, seed=1, split="held-out")
    assert not {p.text for p in train} & {p.text for p in held_out}
    seen = {group for p in train for group in content(p)}
    assert all(any(group not in seen for group in content(p)) for p in held_out)


def test_both_splits_have_scenes_of_every_count_and_are_honoured() -> None:
    for split in ("train", "held-out"):
        assert all(split_of(scene_of(seed, split, count)) == split for seed in range(20) for count in (1, 2, 3))


def test_the_split_forgets_order_place_and_background_of_pairs() -> None:
    scene = scene_of(2, "held-out", 2)
    a, b = scene.things
    moved = Scene(things=(b, replace(a, x=0.5, y=0.5, size="small")), background="white")
    assert split_of(moved) == "held-out"


def test_about_one_pair_in_twelve_is_held_out() -> None:
    kinds = [(c, s) for c in COLOURS for s in SHAPES]
    things = [tuple(thing(colour=c, shape=s) for c, s in pair) for pair in combinations(kinds, 2)]
    held = [split_of(Scene(things=pair, background="black")) == "held-out" for pair in things]
    assert 0.05 < np.mean(held) < 0.11


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"colour": "pink"}, "colour='pink' is unknown; choose one of red, green"),
        ({"shape": "star"}, "shape='star' is unknown; choose one of circle"),
        ({"size": "huge"}, "size='huge' is unknown; choose one of small, large"),
        ({"x": 1.2}, r"x=1.2 of a red circle must be in \[0, 1\]"),
        ({"y": float("nan")}, r"y=nan of a red circle must be in \[0, 1\]"),
    ],
)
def test_a_wrong_thing_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(thing(), **wrong)


def test_wrong_arguments_are_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="background='pink' is unknown; choose one of black"):
        Scene(things=(), background="pink")
    with pytest.raises(ValueError, match="count=4 must be 1 to 3, or None"):
        sample(rng, count=4)
    with pytest.raises(ValueError, match="count=0 must be 1 to 3, or None"):
        sample(rng, count=0)
    with pytest.raises(ValueError, match="split='test' is unknown; choose one of train, held-out"):
        sample(rng, split="test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size=16 must be at least 32 pixels"):
        render(scene_of(0), 16)
    with pytest.raises(ValueError, match="size=16 must be at least 32 pixels"):
        masks(scene_of(0), 16)
    with pytest.raises(ValueError, match="n=-1 must not be negative"):
        prompts(-1, seed=0)
    with pytest.raises(ValueError, match="leaves nothing to describe"):
        describe(Scene(things=(), background="black"), rng)


def test_scenes_are_values() -> None:
    scene = scene_of(0)
    assert hash(scene) == hash(scene_of(0))
    with pytest.raises(FrozenInstanceError):
        scene.background = "white"  # type: ignore[misc]
