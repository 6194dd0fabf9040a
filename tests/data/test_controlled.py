"""Scenes with a mask or a sketch: exact, of both kinds, and from the generator alone."""

from typing import Any

import numpy as np
import pytest
import torch

from saccade.data.labelled import ControlledScenes, open_controlled, open_source
from saccade.data.labelled.controlled import TONES, control, outline
from saccade.data.pixels import to_bytes
from saccade.data.scenes import Scene, Thing, masks, split_of
from saccade.data.scenes.word_numbers import IDS, PADDING, word_numbers

SCENE = Scene(
    things=(
        Thing(colour="red", shape="square", size="large", x=0.3, y=0.3),
        Thing(colour="blue", shape="circle", size="small", x=0.7, y=0.7),
    ),
    background="gray",
)


def test_a_mask_has_the_colour_of_each_shape_where_it_is() -> None:
    mask, exact = control(SCENE, "mask", 32), masks(SCENE, 32)
    for owned, shape in zip(exact, ("square", "circle"), strict=True):
        assert (mask[owned] == TONES[shape]).all()
    assert not mask[~exact.any(0)].any()


def test_a_sketch_is_the_outline_of_each_thing_whatever_its_colour() -> None:
    sketch, exact = control(SCENE, "sketch", 32), masks(SCENE, 32)
    lines = sketch.any(-1)
    assert (sketch[lines] == 255).all() and not lines[~exact.any(0)].any()
    for owned in exact:
        rows, columns = np.nonzero(owned)
        assert lines[rows.min(), columns].any() and lines[rows, columns.max()].any()
        inside = owned & ~outline(owned)
        assert inside.any() and not lines[inside].any()
    assert outline(np.pad(np.ones((3, 3), bool), 1)).sum() == 8


def test_batches_hold_both_kinds_and_depend_on_the_generator_alone() -> None:
    source = ControlledScenes(dropped=0.0)
    (x, condition), (y, again) = (source.batch(np.random.default_rng(3), 24) for _ in range(2))
    assert torch.equal(x, y) and all(torch.equal(condition[name], again[name]) for name in condition)
    assert x.shape == condition["picture"].shape == (24, 3, 32, 32) and condition["ids"].shape == (24, 24)
    white = [
        set(map(tuple, each.reshape(-1, 3))) == {(0, 0, 0), (255, 255, 255)} for each in to_bytes(condition["picture"])
    ]
    assert white == (condition["modality"] == 1).tolist() and 4 < sum(white) < 20
    assert (condition["ids"] < PADDING).any(1).all()


def test_pictures_are_dropped_now_and_then() -> None:
    for dropped, share in ((0.0, (0, 0)), (0.5, (0.3, 0.7)), (1.0, (1, 1))):
        _, condition = ControlledScenes(dropped=dropped).batch(np.random.default_rng(0), 64)
        found = float((condition["picture"] == 0).flatten(1).all(1).float().mean())
        assert share[0] <= found <= share[1]


def test_held_out_scenes_are_always_the_same_and_never_trained_on() -> None:
    source = ControlledScenes()
    (x, condition), (more, _) = source.held_out(6), source.held_out(9)
    assert torch.equal(x, more[:6]) and condition["modality"].tolist() == [0, 1] * 3
    scenes, prompts = source.captioned(6)
    assert {split_of(scene) for scene in scenes} == {"held-out"}
    assert torch.equal(condition["ids"], word_numbers(prompts, 24))
    drawn = ControlledScenes(kinds=("sketch",)).held_out(6)[1]
    assert drawn["modality"].tolist() == [1] * 6 and torch.equal(drawn["ids"], condition["ids"])


def test_nothing_said_leaves_the_picture() -> None:
    source = ControlledScenes()
    _, condition = source.held_out(2)
    null = source.null(condition)
    assert (null["ids"] == PADDING).all() and not (condition["ids"] == PADDING).all()
    assert torch.equal(null["picture"], condition["picture"]) and null["modality"] is condition["modality"]


def test_it_is_opened_by_name() -> None:
    assert open_source("controlled-scenes", 48, kinds="mask", things=1).kinds == ("mask",)  # type: ignore[attr-defined]
    assert open_controlled() == ControlledScenes()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kinds": ()}, "kinds=0 must be at least 1"),
        ({"kinds": ("depth",)}, "kinds='depth' is unknown; choose one of mask, sketch"),
        ({"things": 0}, "things=0 must be at least 1"),
        ({"dropped": 1.5}, r"dropped=1.5 must be in \[0, 1\]"),
    ],
)
def test_bad_options(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ControlledScenes(**options)
    with pytest.raises(ValueError, match="kinds='depth' is unknown; choose one of both, mask, sketch"):
        open_controlled(kinds="depth")


def test_a_caption_that_is_too_long_is_refused() -> None:
    _, (prompt, *_) = ControlledScenes().captioned(1)
    with pytest.raises(ValueError, match=f"has {len(prompt.text.split())} words; give at least so many, not words=2"):
        word_numbers([prompt], 2)
    assert word_numbers([prompt], 24)[0, 0] == IDS[prompt.text.split()[0]]
