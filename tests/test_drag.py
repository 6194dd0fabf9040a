"""Drags on tiny pipelines: what is asked is what is drawn, and a record draws it again bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.core.errors import SaccadeError
from saccade.core.site import Where
from saccade.drag import Dragged, Record, replay, write_sheet
from saccade.papers.clear import Clear
from saccade.papers.diffuhaul import Blob, DiffUHaul, Drag, FlowHost, haul_generated, haul_photo
from saccade.pipelines.flow import Flow
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3
from tests.tiny_unet import tiny_unet

pytestmark = pytest.mark.host
PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
SMALL = PICTURE[:16, :16]
PROMPT = "a red circle above a cross"
RED, CROSS = Blob(x=0.25, y=0.25, a=0.2, b=0.2, name="red circle"), Blob(x=0.75, y=0.7, a=0.2, b=0.15, name="cross")
ASKED: dict[str, Any] = {"object": RED, "to": (0.75, 0.25), "steps": 2, "text_tokens": 16, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_flux()


def dragged(pipe: Any, source: Any = PROMPT, **given: Any) -> Dragged:
    return saccade.drag(pipe, source, **{**ASKED, **given})


def on_unet(gated: bool = True, **given: Any) -> Dragged:
    asked = {"object": RED, "to": (0.75, 0.25), "others": {"cross": CROSS}, "steps": 2, "masked": gated}
    return saccade.drag(tiny_unet(gated=gated), **{"source": PROMPT, **asked, **given})


def test_a_prompt_is_drawn_and_dragged_as_the_system_does_it(pipe: Any) -> None:
    found = dragged(pipe, others={"cross": CROSS}, seed=3, tau=0.4)
    host = FlowHost(flow=Flow(pipe=pipe, height=32, width=32, text_tokens=16), steps=2, guidance=3.5)
    system = DiffUHaul(
        source=(RED, CROSS), target=(RED.moved((0.75, 0.25)), CROSS), words=((1, 2), (5,)), carry=True, tau=0.4
    )
    wanted = host.decode(haul_generated(host, Drag(system=system, prompts=((PROMPT,),) * 2), host.start(3)))
    assert np.array_equal(found.before, wanted[:1]) and np.array_equal(found.after, wanted[1:])
    assert (found.source, found.target) == (RED, RED.moved((0.75, 0.25)))


def test_a_picture_is_dragged_by_its_noised_latents(pipe: Any) -> None:
    found = dragged(pipe, PICTURE, prompt=PROMPT, buckets=2, height=None, width=None)
    assert np.array_equal(found.before, PICTURE[None].astype(np.float32) / 255)
    host = FlowHost(flow=Flow(pipe=pipe, height=32, width=32, text_tokens=16), steps=2, guidance=3.5)
    system = DiffUHaul(source=(RED,), target=(RED.moved((0.75, 0.25)),), words=((1, 2),), carry=True)
    how = Drag(system=system, prompts=((PROMPT,),) * 2, buckets=2)
    fresh = torch.Generator().manual_seed(0)
    wanted = host.decode(haul_photo(host, how, host.encode(found.before), host.start(0), fresh))
    assert np.array_equal(found.after, wanted[1:])


@pytest.mark.parametrize("gated", [True, False])
def test_u_nets_drag_prompts_and_pictures(gated: bool) -> None:
    drawn = on_unet(gated)
    assert drawn.after.shape == (1, 16, 16, 3) and not np.array_equal(drawn.after, drawn.before)
    assert not drawn.record.request.carry and drawn.record.request.guidance == 7.5
    photo = on_unet(gated, source=SMALL, prompt=PROMPT, buckets=1)
    assert np.array_equal(photo.before[0], SMALL.astype(np.float32) / 255)


def test_sd3_drags_under_guidance() -> None:
    found = dragged(tiny_sd3())
    assert found.record.request.guidance == 7.0 and not np.array_equal(found.after, found.before)


def test_objects_are_found_by_their_words(pipe: Any) -> None:
    watch = Where(kinds=("joint",))
    seen: list[tuple[int, int, str]] = []
    found = dragged(pipe, object="red circle", threshold=0.5, watch=watch, progress=lambda *now: seen.append(now))
    assert found.source.name == "red circle" and found.target == found.source.moved((0.75, 0.25))
    assert seen == [(i, 4, "drag") for i in range(1, 5)]
    both = dragged(pipe, PICTURE, prompt=PROMPT, others={"red circle": None}, object="cross", height=None, width=None)
    assert [blob.name for blob in both.record.request.source] == ["cross", "red circle"]


def test_places_are_blobs_boxes_masks_or_pixels(pipe: Any) -> None:
    mask = np.zeros((32, 32), bool)
    mask[4:12, 8:24] = True
    box = dragged(pipe, object=(8, 4, 24, 12), word="red circle", steps=1)
    assert box.source == Blob.of_box((0.25, 0.125, 0.75, 0.375), "red circle")
    for given in (mask, mask.astype(np.float32), Image.fromarray(255 * mask.astype(np.uint8))):
        assert dragged(pipe, object=given, word="red circle", steps=1).source == Blob.of_mask(mask, "red circle")
    for to, centre in (
        ((16, 24), (0.5, 0.75)),
        (Blob(x=0.5, y=0.75, a=0.1, b=0.3), (0.5, 0.75)),
        ((0, 0.5, 1, 1), (0.5, 0.75)),
    ):
        target = dragged(pipe, to=to, steps=1).target
        assert (target.x, target.y) == centre and target.name == "red circle"
    layout = (RED.moved((0.6, 0.3)), CROSS)
    assert dragged(pipe, to=layout, others={"cross": CROSS}, steps=1).record.request.target == layout


def test_a_record_is_drawn_again_bit_for_bit(pipe: Any, tmp_path: Path) -> None:
    first = dragged(
        pipe, PICTURE, prompt=PROMPT, object="red circle", others={"cross": CROSS}, buckets=2, fresh_noise="step",
        systems=(Clear(radius=2.0),), seed=7, height=None, width=None, target_prompt="a red circle right of a cross",
    )  # fmt: skip
    record = Record.load(first.record.save(tmp_path / "new" / "r.safetensors"))
    again = replay(tiny_flux(), record)
    assert np.array_equal(again.after, first.after) and np.array_equal(again.before, first.before)
    assert again.record.digests == first.record.digests and record.request.systems == ("clear(radius=2.0)",)
    drawn = dragged(pipe)
    assert np.array_equal(replay(pipe, Record.load(drawn.record.save(tmp_path / "s"))).after, drawn.after)
    gated = on_unet()
    assert np.array_equal(replay(tiny_unet(gated=True), gated.record).after, gated.after)


def test_records_of_other_models_and_stacks_are_refused_and_other_bits_are_warned_of(pipe: Any, tmp_path: Path) -> None:
    record = dragged(pipe).record
    with pytest.raises(SaccadeError, match="the record was made with another pipeline"):
        replay(tiny_sd3(), record)
    with pytest.raises(ValueError, match=r"systems=\['clear\(radius=2.0\)'\] are not the record's, \[\]"):
        replay(pipe, record, systems=[Clear(radius=2.0)])
    with pytest.warns(UserWarning, match="not those of the record bit for bit: torch 1.0 -> 2"):
        replay(pipe, replace(record, digests=("0",), made_by={**record.made_by, "torch": "1.0"}))
    from saccade.insert import Record as Insertion

    with pytest.raises(ValueError, match="is no record of insert"):
        Insertion.load(record.save(tmp_path / "r.safetensors"))


@pytest.mark.slow
def test_other_options_are_other_pictures(pipe: Any) -> None:
    one = dragged(pipe)
    for given in (
        {"masked": False}, {"share": False}, {"schedule": None}, {"schedule": "1-t/T"}, {"kappa": 0.5}, {"tau": 0.0},
        {"nearest": False}, {"carry": False}, {"blend": False}, {"dilation": 0}, {"seed": 1}, {"to": (0.7, 0.7)},
    ):  # fmt: skip
        assert not np.array_equal(dragged(pipe, **given).after, one.after), given


@pytest.mark.parametrize("name", ["s.png", "s.html"])
def test_a_sheet_shows_before_places_and_after(pipe: Any, tmp_path: Path, name: str) -> None:
    path = write_sheet(dragged(pipe), tmp_path / "new" / name)
    if name.endswith("html"):
        assert path.read_text().count("<img ") == 3
    else:
        with Image.open(path) as sheet:
            assert sheet.width > 2 * sheet.height


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"to": (1.5, -3.0)}, "lies outside the picture"),
        ({"to": (0.1,)}, r"to=\(0.1,\) must be a centre x, y, a box"),
        ({"to": (CROSS, RED), "others": {"cross": CROSS}}, "object 0 is 'red circle' in source and 'cross' in target"),
        ({"to": (RED,), "others": {"cross": CROSS}}, "source has 2 objects and target 1"),
        ({"object": (0.5, 0.5, 0.5, 0.9), "word": "cross"}, "must be x0 < x1 and y0 < y1"),
        (
            {"object": np.zeros((8, 8), bool), "word": "cross"},
            r"a mask \(8, 8\) of the object must be of the picture's",
        ),
        ({"object": np.zeros((32, 32), bool), "word": "cross"}, "the mask of cross is empty"),
        ({"object": 3.0}, "must be words of the prompt, a Blob, a box"),
        ({"object": "blue square"}, "word='blue square' is not in the prompt"),
        ({"object": replace(RED, name="")}, "masked=True masks by words, and object 0 has none"),
        ({"object": "cross", "word": "cross"}, "object='cross' are words already"),
        ({"others": {"red circle": CROSS}}, "others names 'red circle', which is dragged"),
        ({"prompt": "x"}, "prompt='x' belongs to a picture"),
        ({"source": " "}, "prompt='' says nothing of the picture"),
        ({"source": PICTURE}, "prompt=None says nothing of the picture"),
        ({"source": PICTURE, "prompt": PROMPT, "height": 64}, "height=64 and width=32 are not the picture's"),
        ({"height": 20}, "height=20 must be a multiple of 8 pixels"),
        ({"tau": 1.5}, r"tau=1.5 must be in \[0, 1\]"),
        ({"schedule": "up"}, "schedule='up' is unknown"),
        ({"schedule": lambda done: 0.5}, "a schedule must be a name for its record"),
        ({"buckets": 0}, "buckets=0 must be a whole number of at least 1"),
        ({"fresh_noise": "never"}, "fresh_noise='never' is unknown"),
        ({"dilation": -1}, "dilation=-1 must be a whole number of at least 0"),
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ({"text_tokens": 0}, "text_tokens=0 must be a whole number of at least 1"),
        ({"guidance": "strong"}, "guidance='strong' must be a number"),
        ({"nearest": "no"}, "nearest='no' must be True or False"),
        ({"threshold": 2.0}, r"threshold=2.0 must be in \[0, 1\)"),
        ({"source": 3, "prompt": PROMPT}, "a picture of int must be a PIL image or an array"),
        ({"object": CROSS, "word": 3}, "word=3 must be words of the prompt"),
    ],
)
def test_what_does_not_fit_together_is_named_before_anything_is_drawn(
    pipe: Any, given: dict[str, Any], message: str
) -> None:
    ran: list[object] = []
    hook = pipe.transformer.register_forward_pre_hook(lambda *seen: ran.append(seen))
    with pytest.raises(ValueError, match=message):
        dragged(pipe, **given)
    hook.remove()
    assert not ran


@pytest.mark.bad_input
def test_u_nets_find_nothing_by_words_and_other_pipelines_are_refused() -> None:
    with pytest.raises(ValueError, match="object='cross' is not found by words in a U-Net"):
        on_unet(object="cross", others={})
    other = tiny_flux()
    from diffusers import FlowMatchHeunDiscreteScheduler

    other.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ValueError, match="must be a deterministic FlowMatchEulerDiscreteScheduler"):
        dragged(other)
