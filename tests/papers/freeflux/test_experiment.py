"""FreeFlux's experiment: its edits, their scores, and what its page makes of them."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from saccade.data import scenes
from saccade.data.scenes import Scene, Thing
from saccade.data.scenes.world import PLACES
from saccade.experiments import Results
from saccade.papers.freeflux.experiment import across_halves, scores_of
from saccade.papers.freeflux.small_run import SIDE, Case, Kind, cases, iou, on_tokens, score

KINDS: tuple[Kind, ...] = ("move", "add", "background")


def picture(prompt: scenes.Prompt) -> np.ndarray:
    """A prompt drawn as it asks."""
    places = [PLACES[want.place or "center"] for want in prompt.wants]
    things = tuple(
        Thing(colour=want.colour, shape=want.shape, size="large", x=x, y=y)
        for want, (x, y) in zip(prompt.wants, places, strict=True)
    )
    return scenes.render(Scene(things=things, background=prompt.background or "gray"), SIDE).astype(float) / 255


def first(kind: Kind) -> Case:
    return next(cases(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_and_its_target_are_scenes_that_can_be_drawn(kind: Kind) -> None:
    for one in islice(cases(kind), 10):
        for prompt in (one.source, one.target):
            assert scenes.judge(picture(prompt), prompt).all
        assert one.source.text != one.target.text and one.words in one.target.text
        assert (one.words in one.source.text) is (kind != "add")


def test_an_edit_that_was_made_is_seen() -> None:
    found = {kind: score(kind, picture(first(kind).target), picture(first(kind).source), first(kind)) for kind in KINDS}
    assert found["move"] == {"stays": 0, "moved": 1, "colour": 1, "all": 1}
    assert found["add"]["made"] == 1 and found["add"]["kept"] > 40
    assert (found["background"]["made"], found["background"]["all"]) == (1, 1) and found["background"]["kept"] > 15


def test_a_source_left_as_it_is_is_no_edit() -> None:
    found = {kind: score(kind, picture(first(kind).source), picture(first(kind).source), first(kind)) for kind in KINDS}
    assert found["move"]["stays"] == 1 and found["move"]["moved"] == 0 == found["move"]["all"]
    assert found["add"] == {"made": 0, "kept": 99}
    assert found["background"] == {"made": 0, "kept": 99, "all": 0}


def test_masks_on_tokens_hold_every_pixel() -> None:
    mask = np.zeros((16, 24), bool)
    mask[7, 8] = True
    assert on_tokens(mask).tolist() == [[False, True, False], [False, False, False]]
    assert iou(mask, mask) == 1 and iou(mask, ~mask) == 0


def test_layers_chosen_on_one_half_are_measured_on_the_other() -> None:
    """Where nothing but chance differs from layer to layer, the other half says so; where a layer differs, it does."""
    rng = np.random.default_rng(0)
    rows = [
        {"site": f"b.{i}", "move": "m", "picture": p, "mse": float(10 ** -rng.uniform(1, 3))}
        for i in range(5) for p in range(40)
    ]  # fmt: skip
    chance = Results(device="", date="", versions={}, tables={"probe": rows})
    assert scores_of(chance).mse.shape == (5, 1, 40) and across_halves(chance).low < 0 < across_halves(chance).high
    sure = [replaced | {"mse": replaced["mse"] * (100 if replaced["site"] == "b.2" else 1)} for replaced in rows]
    assert across_halves(replace(chance, tables={"probe": sure})).low > 10
