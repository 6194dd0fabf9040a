"""Recorded maps against whole maps in float64 on tiny models of the real classes; keys whose gradients are stopped."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.site import Where
from saccade.core.state import Memory
from saccade.mechanisms import attention_maps
from saccade.mechanisms.attention_maps import AttentionMaps, RecordedMaps, recorded
from saccade.mechanisms.stopped_keys import StoppedKeys
from saccade.ops.parts import attend_parts
from tests.hosts.stand_ins import Looking, looking
from tests.hosts.test_unet import one_row as unet
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
EVERY = Where(kinds=("joint", "self", "cross"))
TOKENS = (2, 0)
Maps = dict[str, list[Tensor]]


def whole_maps(model: Any, inputs: dict[str, Any], size: tuple[int, int] | None = None, **options: Any) -> Maps:
    """The columns and the block among visual tokens of every site, mean over heads, from materialised maps."""
    found: Maps = {"words": [], "image": []}

    def look(call: AttentionCall) -> None:
        queries = call.layout_q.span("image")
        if size is not None and call.layout_q.image.grid != (1, *size):
            return
        scores = call.q.double() @ call.k.double().mT * call.scale
        if call.bias is not None:  # PixArt's padding
            scores = scores + call.bias.materialize(*scores.shape[2:]).double()
        if call.mask is not None:
            scores = scores.masked_fill(~call.mask.materialize(call.layout_q, call.layout_k), -torch.inf)
        whole = scores.softmax(-1)[:, :, queries].mean(1)
        if call.layout_k.text_n:
            start = call.layout_k.span(call.layout_k.of("text")[0].name).start
            found["words"].append(whole[..., [start + t for t in TOKENS]].mT)
        if call.layout_k.of("image"):
            found["image"].append(whole[..., call.layout_k.span("image")])

    with attach(model, looking(look), where=EVERY, **options):
        output(model, inputs)
    return found


def kept(model: Any, inputs: dict[str, Any], recorder: AttentionMaps, **options: Any) -> RecordedMaps:
    with attach(model, Looking(recorder), where=EVERY, **options) as run:
        output(model, inputs)
        return recorded(run.state.forward["looking"], recorder)


def check(maps: RecordedMaps, plain: Maps) -> None:
    words = torch.stack(plain["words"]).mean(0)
    torch.testing.assert_close(maps.words.flatten(2).double(), words, atol=1e-5, rtol=0)
    assert maps.image is not None
    torch.testing.assert_close(maps.image.double(), torch.stack(plain["image"]).mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["flux", "sd3", "pixart"])
def test_means_over_heads_and_sites_are_those_of_the_whole_maps(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    check(kept(model, inputs, AttentionMaps(tokens=TOKENS, image=None)), whole_maps(model, inputs))


def test_a_unet_is_read_on_the_grids_asked_for() -> None:
    model, inputs = unet()
    maps = kept(model, inputs, AttentionMaps(tokens=TOKENS, words=(4, 2), image=(8, 4)))
    assert maps.words.shape[-2:] == (4, 2) and maps.size == (8, 4)
    coarse, fine = (whole_maps(model, inputs, size) for size in ((4, 2), (8, 4)))
    check(maps, {"words": coarse["words"], "image": fine["image"]})


def test_reading_changes_no_output_and_rows_can_be_left_out() -> None:
    model, inputs = BY_NAME["flux"].build()
    plain = output(model, inputs)
    recorder = AttentionMaps(tokens=TOKENS, image=None, rows=1)
    with attach(model, Looking(recorder), where=EVERY) as run:
        torch.testing.assert_close(output(model, inputs), plain, atol=1e-5, rtol=1e-4)
        maps = recorded(run.state.forward["looking"], recorder)
    assert maps.words.shape[0] == 1 and maps.image is not None and maps.image.shape == (1, 16, 16)
    every = kept(model, inputs, AttentionMaps(tokens=TOKENS, image=None))
    torch.testing.assert_close(maps.words, every.words[:1])
    torch.testing.assert_close(every.mean().words, every.words.mean(0, keepdim=True))


def test_a_forward_forgets_the_one_before() -> None:
    model, inputs = BY_NAME["flux"].build()
    recorder = AttentionMaps(tokens=TOKENS)
    with attach(model, Looking(recorder), where=EVERY) as run:
        output(model, {**inputs, "hidden_states": inputs["hidden_states"] + 1})
        output(model, inputs)
        found = recorded(run.state.forward["looking"], recorder).words
    torch.testing.assert_close(found, kept(model, inputs, recorder).words)


def test_columns_carry_the_gradients_of_the_whole_map_and_the_block_carries_none() -> None:
    torch.manual_seed(0)
    layout = Layout.joint(text=3, grid=(1, 2, 2))
    q, k, v = (torch.randn(1, 2, 7, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    call, mem = plain_call(q, k, v, layout=layout), Memory()
    recorder = AttentionMaps(tokens=TOKENS, image=None)
    recorder.observe(call, attend_parts(call, want_lse=True), mem)
    found = recorded(mem.forward, recorder)
    weights = torch.rand(2, 2, 2, dtype=torch.float64)
    whole = (q @ k.mT * call.scale).softmax(-1)[:, :, 3:].mean(1)[..., list(TOKENS)].mT.unflatten(2, (2, 2))
    for one, two in zip(*(torch.autograd.grad((x * weights).sum(), (q, k)) for x in (found.words, whole)), strict=True):
        torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-6)
    assert found.image is not None and not found.image.requires_grad


def test_the_block_is_made_a_run_of_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = BY_NAME["sd3"].build()
    recorder, largest, plain = AttentionMaps(tokens=TOKENS, image=None), 0, attention_maps.key_columns
    expected = kept(model, inputs, recorder)

    def watch(*given: Any) -> Tensor:
        nonlocal largest
        found = plain(*given)
        largest = max(largest, found.numel())
        return found

    monkeypatch.setattr(attention_maps, "key_columns", watch)
    monkeypatch.setattr(attention_maps, "HELD", 200)
    maps = kept(model, inputs, recorder)
    assert largest <= 200 and maps.image is not None and expected.image is not None
    torch.testing.assert_close(maps.image, expected.image)


@pytest.mark.bad_input
def test_a_grid_there_is_not_names_those_there_are() -> None:
    model, inputs = unet()
    for recorder, message in (
        (AttentionMaps(tokens=TOKENS, words=(9, 9)), "no site has a grid of 9 x 9 for maps of words; there are 4 x 2"),
        (AttentionMaps(tokens=TOKENS, words=(4, 2), image=(9, 9)), "9 x 9 for maps of image; there are 4 x 2, 8 x 4"),
        (AttentionMaps(tokens=TOKENS), r"on several grids \(4 x 2, 8 x 4\); name one of them"),
    ):  # fmt: skip
        with pytest.raises(StateError, match=message):
            kept(model, inputs, recorder)


@pytest.mark.bad_input
def test_what_was_not_recorded_and_a_video_are_errors() -> None:
    with pytest.raises(StateError, match="no site recorded a map of words yet; run the model first"):
        recorded({}, AttentionMaps(tokens=TOKENS))
    video = Layout.joint(text=3, grid=(2, 2, 2))
    with pytest.raises(ValueError, match=r"grid=\(2, 2, 2\) is a video's; maps are recorded of pictures alone"):
        AttentionMaps(tokens=TOKENS).check(video, video)
    picture = Layout.joint(text=3, grid=(1, 2, 2))
    with pytest.raises(ValueError, match="token 7 of a watched word is not in the text"):
        AttentionMaps(tokens=(7,)).check(picture, picture)


def test_stopped_keys_hold_what_they_held_and_pass_no_gradient() -> None:
    torch.manual_seed(0)
    layout = Layout.joint(text=3, grid=(1, 2, 2), text_first=False)
    q, k, v = (torch.randn(1, 2, 7, 4, requires_grad=True) for _ in range(3))
    call = StoppedKeys(tokens=(0,)).operands(plain_call(q, k, v, layout=layout), Memory())
    assert torch.equal(call.k, k) and torch.equal(call.v, v) and call.q is q
    weights = torch.rand_like(k)
    one, two = torch.autograd.grad((call.k * weights).sum() + (call.v * weights).sum(), (k, v))
    expected = weights.clone()
    expected[:, :, 4] = 0  # the text comes last here
    assert torch.equal(one, expected) and torch.equal(two, expected)


def test_a_stopped_start_leaves_the_gradient_of_the_projection_alone_whatever_it_holds() -> None:
    torch.manual_seed(0)
    words, weight = torch.randn(5, 6), torch.randn(8, 6, requires_grad=True)
    upstream, found = torch.randn(1, 1, 5, 8), []
    for start in (words[0], torch.full((6,), 9.0)):
        keys = torch.cat((start[None], words[1:])) @ weight.mT
        call = plain_call(torch.zeros(1, 1, 1, 8), keys[None, None], keys[None, None])
        found += torch.autograd.grad((StoppedKeys().operands(call, Memory()).k * upstream).sum(), weight)
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], upstream[0, 0, 1:].mT @ words[1:])
