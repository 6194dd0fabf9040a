"""AttenCraft's experiment: what its judge counts, its true masks, its scenes and arms."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from saccade.data import scenes
from saccade.papers.attencraft import Customisation, PriorPictures
from saccade.papers.attencraft.experiment import ARMS, EXPERIMENT
from saccade.papers.attencraft.scene import NEAR, PAIRS, PRIOR, SIDE, Shown, for_scenes
from saccade.papers.attencraft.small_run import MAPS, iou, judged, true_masks, two_things


def drawn(*things: tuple[str, str, float]) -> np.ndarray:
    made = tuple(scenes.Thing(colour=c, shape=s, size="large", x=x, y=0.5) for c, s, x in things)
    return scenes.render(scenes.Scene(things=made, background="black"), SIDE).astype(np.float32) / 255


def test_a_picture_of_one_concept_is_judged_by_shape_colour_and_what_came_along() -> None:
    own, other = Shown().scene.things
    assert (own.colour, own.shape, other.colour, other.shape) == ("red", "circle", "blue", "square")
    alone = judged(drawn(("red", "circle", 0.3)), own, other)
    assert alone == {"shape": 1, "colour": 1, "leaked": 0, "things": 1}
    assert judged(drawn(("red", "circle", 0.2), ("blue", "square", 0.8)), own, other)["leaked"] == 1
    assert judged(drawn(("red", "circle", 0.2), ("green", "square", 0.8)), own, other)["leaked"] == 1
    assert judged(drawn(("orange", "circle", 0.2)), own, other) == {"shape": 1, "colour": 0, "leaked": 0, "things": 1}
    assert judged(drawn(("red", "square", 0.2)), own, other)["shape"] == 0


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_pictures_show_two_colours_and_shapes_whose_words_are_near(number: int) -> None:
    shown = Shown(number=number)
    one, other = shown.scene.things
    assert one.colour != other.colour and one.shape != other.shape
    assert [concept.word for concept in shown.concepts] == [NEAR[one.colour], NEAR[other.colour]]
    assert len(scenes.parse(shown.picture()).things) == 2


def test_scenes_of_the_extraction_differ_in_colour_and_shape() -> None:
    for number in range(8):
        one, other = two_things(number).things
        assert one.colour != other.colour and one.shape != other.shape


def test_true_masks_are_tokens_covered_by_more_than_a_half() -> None:
    found = true_masks(two_things(0), 64, 8)
    assert found.shape == (2, 8, 8) and found.any((1, 2)).all() and not (found[0] & found[1]).any()
    assert iou(found[0], found[0]) == 1 and iou(found[0], found[1]) == 0
    assert iou(torch.zeros(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)) == 0


def test_arms_differ_in_both_parts_and_maps_in_square_and_power() -> None:
    assert len({(arm.scheme, arm.attention) for arm in ARMS.values()}) == len(ARMS) == 5
    assert len(MAPS) == 4 and len(EXPERIMENT.settings.seeds) >= 3


def test_the_bundled_model_is_given_prompts_it_knows() -> None:
    assert for_scenes(Customisation()).prior.prompt == PRIOR and for_scenes(Customisation()).text_tokens == 32
    own = replace(Customisation(), prior=PriorPictures(pictures=3), text_tokens=24)
    assert for_scenes(own).prior == own.prior and for_scenes(own).text_tokens == 24
