"""Edits of drawn and of given pictures on tiny pipelines: what must hold whatever the weights."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.core.site import Where
from saccade.edit import BUNDLED_SETTINGS, Edited
from saccade.metrics.output import pictures
from saccade.papers.clear import Clear
from saccade.pipelines.flow import Flow
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host

SOURCE, TARGET = "a red circle left of a blue square", "a green circle left of a blue square"
PIPES = {"flux": tiny_flux, "sd3": tiny_sd3}
SIZES: dict[str, Any] = {"height": 32, "width": 40, "steps": 4, "text_tokens": 24}
PICTURE = np.random.default_rng(0).random((32, 40, 3)).astype(np.float32)


def edited(name: str, **given: Any) -> Edited:
    pipe = given.pop("pipe", None) or PIPES[name]()
    return saccade.edit(pipe, **{"source": SOURCE, "target": TARGET, **SIZES, **given})


def plain(name: str, *prompts: str, seed: int = 3) -> list[np.ndarray]:
    noise = [torch.Generator().manual_seed(seed) for _ in prompts]
    sizes = {"height": 32, "width": 40, "num_inference_steps": 4, "max_sequence_length": 24}
    return pictures(PIPES[name]()(list(prompts), generator=noise, output_type="np", **sizes))


@pytest.mark.parametrize("name", PIPES)
def test_without_sharing_both_rows_are_plain_generation_bit_by_bit(name: str) -> None:
    found = edited(name, strength=0.0, seed=3)
    before, after = plain(name, SOURCE, TARGET)
    assert np.array_equal(found.before, before) and np.array_equal(found.after, after)
    assert found.mask is None and found.changed.all() and found.before is found.rebuilt


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.parametrize("where", [{"word": "circle"}, {"mask": np.eye(32, 40, dtype=bool)}, {}])
def test_a_target_that_is_the_source_changes_nothing(name: str, where: dict[str, Any]) -> None:
    found = edited(name, target=SOURCE, strength=0.5, **where)
    assert np.array_equal(found.after, found.before)


@pytest.mark.parametrize("name", PIPES)
def test_a_word_becomes_a_mask_and_the_edit_differs_from_plain_generation(name: str) -> None:
    found = edited(name, word="circle", seed=3)
    assert found.mask is not None and found.mask.shape == (4, 5) and 0 < found.mask.sum() < 20
    assert set(found.heat) == {"circle"} and found.heat["circle"].min() > 0
    assert found.changed.shape == (32, 40) and found.changed.mean() == pytest.approx(float(found.mask.float().mean()))
    before, after = plain(name, SOURCE, TARGET)
    assert np.allclose(found.before, before, rtol=0, atol=1e-5)
    assert np.abs(found.after - after).max() > 5e-5  # the effect of random weights' text is small


def test_the_mask_is_what_the_words_say_where_they_are_watched() -> None:
    wide = edited("flux", word="circle", watch=Where(kinds=("joint",)))
    narrow = edited("flux", word="circle")
    assert not torch.equal(wide.heat["circle"], narrow.heat["circle"])
    sharp = edited("flux", word="circle", threshold=0.9)
    assert sharp.mask is not None and narrow.mask is not None and sharp.mask.sum() < narrow.mask.sum()


@pytest.mark.parametrize("name", PIPES)
def test_several_words_are_several_regions(name: str) -> None:
    found = edited(name, word=("circle", "square"), strength=(1.0, 0.25), threshold=0.5)
    assert set(found.heat) == {"circle", "square"} and found.mask is not None
    same = edited(name, word=("circle", "square"), strength=(1.0, 1.0), threshold=0.5)
    assert torch.equal(found.mask, same.mask) and not np.array_equal(found.after, same.after)


def test_a_mask_on_pixels_is_a_mask_on_the_tokens_that_cover_it() -> None:
    pixels, tokens = np.zeros((32, 40), bool), torch.zeros(4, 5, dtype=torch.bool)
    pixels[9:12, 15:17], tokens[1, 1:3] = True, True
    ours, theirs = edited("flux", mask=pixels), edited("flux", mask=tokens)
    assert theirs.mask is not None and ours.mask is not None and torch.equal(ours.mask, tokens)
    assert np.array_equal(ours.after, theirs.after)


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.parametrize("where", [{}, {"where": Where()}])
def test_another_round_goes_on_from_the_very_picture(name: str, where: dict[str, Any]) -> None:
    pipe = PIPES[name]()
    first = edited(name, pipe=pipe, word="circle", keep=True, **where)
    last = "a green circle left of a yellow square"
    second = edited(name, pipe=pipe, source=first, target=last, word="square", height=None, width=None, **where)
    assert np.allclose(second.rebuilt, first.after, atol=1e-5) and second.before is first.after
    assert (second.source, second.target) == (TARGET, last) and set(second.heat) == {"square"}
    assert not np.allclose(second.after, first.after, atol=1e-5)


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.parametrize("kind", ["array", "bytes", "pil"])
def test_a_picture_of_yours_comes_back_as_the_autoencoder_gives_it(name: str, kind: str) -> None:
    pipe = PIPES[name]()
    data = (PICTURE * 255).round().astype(np.uint8)
    source = {"array": data / 255, "bytes": data, "pil": Image.fromarray(data)}[kind]
    found = edited(name, pipe=pipe, source=source, prompt=SOURCE, word="circle", height=None, width=None, steps=12)
    assert np.allclose(found.before, data[None] / 255, atol=1e-6) and found.mask is not None
    flow = Flow(pipe=pipe, height=32, width=40)
    through = flow.decode(flow.encode(found.before))
    assert np.abs(found.rebuilt - through).mean() < 0.1 * np.abs(found.after - through).mean() + 0.01


@pytest.mark.parametrize("name", PIPES)
def test_another_system_runs_beside_the_edit_and_words_are_found_without_it(name: str) -> None:
    beside = ((), (Clear(radius=99),), (Clear(radius=1),))
    alone, wide, narrow = (edited(name, word="circle", systems=systems) for systems in beside)
    assert alone.mask is not None and narrow.mask is not None and torch.equal(alone.mask, narrow.mask)
    assert np.allclose(alone.after, wide.after, rtol=0, atol=1e-5)
    assert np.abs(alone.after - narrow.after).max() > 5e-5


def test_progress_counts_every_call_of_the_model() -> None:
    reports: list[tuple[int, int, str]] = []
    edited("flux", word="circle", progress=lambda *told_now: reports.append(told_now))
    assert [(done, total) for done, total, _ in reports] == [(i, 8) for i in range(1, 9)]
    assert [what for *_, what in reports] == ["find the words"] * 4 + ["edit"] * 4
    reports.clear()
    pictured = {"source": PICTURE, "prompt": SOURCE, "height": None, "width": None}
    edited("flux", **pictured, progress=lambda *told_now: reports.append(told_now))
    assert reports[-1] == (9, 9, "edit") and reports[4][2] == "invert"


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = tiny_flux()
    before = repr(pipe.transformer), dict(pipe._progress_bar_config)
    edited("flux", pipe=pipe, word="circle")
    with pytest.raises(ValueError, match="not in the prompt"):
        edited("flux", pipe=pipe, word="cat")
    assert (repr(pipe.transformer), dict(pipe._progress_bar_config)) == before


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"word": "cat"}, "word='cat' is not in the prompt 'a red circle left"),
        ({"word": "square", "text_tokens": 4}, "word='square' lies beyond the 4 tokens"),
        ({"strength": 1.5}, r"strength=1.5 must be in \[0, 1\]"),
        ({"word": ("circle", "square"), "strength": (1.0,)}, "gives 1 values for 2 regions"),
        ({"word": "circle", "mask": np.ones((4, 5), bool)}, "word and mask both say where to edit"),
        ({"mask": np.ones((4, 4), bool)}, r"mask of \(4, 4\) places fits neither \(4, 5\) image tokens nor \(32, 40\)"),
        ({"mask": np.ones((4, 5))}, "mask of torch.float64 must be bool"),
        ({"height": 30}, "height=30 must be a multiple of 8 pixels"),
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"smooth": 2}, "smooth=2 must be an odd number of tokens, 1 for none"),
        ({"source": PICTURE}, "prompt=None says nothing of the picture"),
        ({"source": PICTURE, "prompt": SOURCE, "width": 48}, "width=48 is not the source's 40 pixels"),
        ({"source": PICTURE[:30], "prompt": SOURCE, "height": None}, "height=30 must be a multiple of 8"),
        ({"source": PICTURE * 2, "prompt": SOURCE}, r"a picture of float32 \(32, 40, 3\) must be \(h w 3\)"),
        ({"threshold": 1.0, "word": "circle"}, "threshold=1.0 must be in"),
        ({"threshold": "high", "word": "circle"}, "threshold='high' must be a number"),
        ({"strength": "all"}, "strength='all' must be a number"),
        ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ({"guidance": "strong"}, "guidance='strong' must be a number"),
        ({"text_tokens": "all"}, "text_tokens='all' must be a whole number of at least 1"),
        ({"target": " "}, "target='' says nothing of the picture"),
        ({"source": ""}, "source='' says nothing of the picture"),
        ({"source": 3}, "source=3 must be a prompt, a picture"),
    ],
)
def test_what_cannot_be_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edited("flux", **given)


def test_an_edit_without_a_tape_is_no_source() -> None:
    with pytest.raises(ValueError, match="an edit without a tape; make it with keep=True"):
        edited("flux", source=edited("flux"), height=None, width=None)


def test_settings_for_the_model_bundled_are_arguments() -> None:
    assert edited("flux", word="circle", **{**BUNDLED_SETTINGS, "steps": 2}).mask is not None
