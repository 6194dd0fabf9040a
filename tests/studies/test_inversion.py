"""The study of inversion: its scenes, and the order of an error."""

import pytest

from saccade.data.scenes import judge, render
from saccade.studies.inversion import Settings, caption, order, pairs, recoloured


def test_order_is_the_slope_of_the_root_error() -> None:
    assert order({steps: (3 / steps**2) ** 2 for steps in (4, 8, 16)}) == pytest.approx(2)


def test_scenes_are_the_same_every_time_and_their_objects_differ_in_shape() -> None:
    scenes = pairs(Settings(scenes=4))
    assert scenes == pairs(Settings(scenes=4)) and len(scenes) == 4
    assert all(len({each.shape for each in scene.things}) == 2 for scene in scenes)


def test_only_the_first_object_gets_a_fresh_colour() -> None:
    for scene in pairs(Settings(scenes=4)):
        wanted = recoloured(scene)
        assert wanted.things[0].colour not in {each.colour for each in scene.things}
        assert wanted.things[1:] == scene.things[1:]
        assert judge(render(wanted, 64) / 255, caption(wanted)).all


def test_a_caption_of_the_target_is_not_kept_by_the_source() -> None:
    for scene in pairs(Settings(scenes=4)):
        verdict = judge(render(scene, 64) / 255, caption(recoloured(scene)))
        assert not verdict.all and verdict.colour == 0.5
