"""Word swaps: captions differ in one word at one place, sources stay, and a score says what became of each."""

from itertools import islice

import numpy as np
import pytest

from saccade.data import scenes
from saccade.papers.ditctrl.swaps import BEST, SIDE, Desk, Part, scored, swaps
from saccade.papers.ditctrl.system import DiTCtrl
from saccade.papers.ditctrl.words_experiment import KV, PLAIN, arms
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
PARTS: tuple[Part, ...] = ("colour", "shape")
every_part = pytest.mark.parametrize("part", PARTS)


@every_part
def test_captions_differ_in_one_word_and_are_the_same_each_time(part: Part) -> None:
    found = list(islice(swaps(part), 20))
    assert found == list(islice(swaps(part), 20))
    for swap in found:
        words = [(a, b) for a, b in zip(swap.source.text.split(), swap.target.text.split(), strict=True) if a != b]
        (old, new) = (getattr(prompt.wants[0], part) for prompt in (swap.source, swap.target))
        assert [pair for pair in words if {*pair} != {"a", "an"}] == [(old, new)] and swap.stays in swap.target.text


@every_part
def test_words_stand_at_one_place_in_all_captions_of_a_part(part: Part) -> None:
    desk, batch = Desk(pipe=tiny_flux(), steps=1), list(islice(swaps(part), 12))
    for swapped in (False, True):
        assert len({desk.words([swap], swapped=swapped) for swap in batch}) == 1
    assert desk.words(batch) != desk.words(batch, swapped=True)


def test_sources_are_what_they_are_alone_and_sharing_changes_targets_alone() -> None:
    desk, batch = Desk(pipe=tiny_flux(), steps=2), list(islice(swaps("colour"), 2))
    alone = desk.draw([swap.source.text for swap in batch], [swap.seed for swap in batch])
    (plain_sources, plain), (sources, shared) = (
        desk.pairs(batch, *systems) for systems in ((), (DiTCtrl(deepest=1.0, steps=(0, 1)),))
    )
    for found in (plain_sources, sources):
        np.testing.assert_allclose(found, alone, atol=1e-5)
    assert np.abs(shared - plain).max() > 1e-4
    again = desk.pairs(batch, swapped=False)
    np.testing.assert_allclose(*again, atol=1e-5)


def test_a_score_says_whether_the_object_is_new_in_place_and_its_surroundings_old() -> None:
    swap = next(swap for swap in swaps("colour") if swap.source.wants[0].place == "left")
    source, new = (drawn(prompt.wants[0]) for prompt in (swap.source, swap.target))
    found = scored(source, new, swap)
    assert found["swapped"] == 1 and found["place"] == pytest.approx(1.0, abs=0.1) and 25 < found["kept"] < BEST
    moved = drawn(swap.target.wants[0], x=0.75)
    assert scored(source, moved, swap)["place"] == 0
    same = scored(source, source, swap)
    assert (same["swapped"], same["place"], same["kept"]) == (0, 1, BEST)
    assert scored(source, np.ones_like(source), swap)["place"] == 0


def drawn(want: scenes.Want, x: float = 0.25) -> np.ndarray:
    thing = scenes.Thing(colour=want.colour, shape=want.shape, size="large", x=x, y=0.5)
    return scenes.render(scenes.Scene(things=(thing,), background="gray"), SIDE).astype(np.float32) / 255


def test_arms_are_what_they_are_called() -> None:
    found = arms((3,))
    assert found[PLAIN] == () and found[KV] == (DiTCtrl(),)
    assert [system.words for (system,) in list(found.values())[1:]] == [(), (3,), ()]  # type: ignore[attr-defined]
