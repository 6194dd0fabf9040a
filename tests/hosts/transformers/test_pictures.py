"""Which tokens are pictures, found from ids, grids and places."""

from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout, Segment
from saccade.core.places import Causal
from saccade.families.picture_tokens import grids_of_places, joined
from tests.hosts.stand_ins import Masked, Same, looking
from tests.hosts.tiny import BY_NAME, output
from tests.hosts.transformers.pictured import IMAGE, VIDEO, qwen2_vl_inputs, sentence

pytestmark = pytest.mark.host
MARKS = {"image": IMAGE, "video": VIDEO}


def layout_of(model: Any, inputs: dict[str, Any]) -> str:
    found: set[str] = set()
    with attach(model, looking(lambda call: found.add(call.layout_k.describe()))):
        output(model, inputs)
    (only,) = found
    return only


def test_each_picture_of_qwen2_vl_has_its_own_grid() -> None:
    model, inputs = BY_NAME["qwen2_vl"].build()
    assert layout_of(model, inputs) == "text 4 | image 12 (1x3x4) | text2 3"
    several = qwen2_vl_inputs((1, 4, 8), (1, 6, 4))
    assert layout_of(model, several) == "text 4 | image 8 (1x2x4) | text2 4 | image2 6 (1x3x2) | text3 3"


def test_pictures_of_llava_are_squares() -> None:
    model, inputs = BY_NAME["llava"].build()
    assert layout_of(model, inputs) == "text 4 | image 16 (1x4x4) | text2 3"


def test_words_alone_are_text() -> None:
    model, _ = BY_NAME["llava"].build()
    assert layout_of(model, {"input_ids": sentence(7), "return_dict": False, "use_cache": False}) == "text 7"


def test_image_tokens_are_where_the_layout_says() -> None:
    """Another picture moves `hidden` of the first layer at its own tokens only."""
    model, inputs = BY_NAME["llava"].build()
    seen: list[tuple[AttentionCall, torch.Tensor]] = []
    first = looking(lambda call: seen.append((call, call.host.hidden)) if call.site.index == 0 else None, "host.hidden")
    with attach(model, first):
        output(model, inputs)
        output(model, {**inputs, "pixel_values": inputs["pixel_values"] + 1})
    (call, one), (_, two) = seen
    moved = ((one - two).abs().amax(dim=(0, 2)) > 1e-6).nonzero().flatten()
    span = call.layout_q.span("image")
    assert moved.tolist() == list(range(span.start, span.stop))


def test_a_disc_keeps_the_order_of_words_and_pictures() -> None:
    model, inputs = BY_NAME["qwen2_vl"].build()
    masks: list[AttentionCall] = []
    with attach(model, Masked(), looking(masks.append)):
        output(model, inputs)
    for call in masks:
        assert call.mask is not None
        allowed = call.mask.materialize(call.layout_q, call.layout_k)[0, 0]
        order = Causal().materialize(call.layout_q, call.layout_k)[0, 0]
        assert not (allowed & ~order).any() and (order & ~allowed).any()


def test_the_vision_tower_is_left_alone_and_the_report_says_so() -> None:
    for name, tower in (("qwen2_vl", "model.visual.blocks.0.attn"), ("llava", "model.vision_tower")):
        model, inputs = BY_NAME[name].build()
        with attach(model, Same()) as run:
            output(model, inputs)
        notes = {site.name: site.note for site in run.report().sites if site.note}
        assert notes and all(own.startswith(tower) and "vision tower" in note for own, note in notes.items())


@pytest.mark.bad_input
def test_rows_whose_pictures_differ_are_refused() -> None:
    model, inputs = BY_NAME["qwen2_vl"].build()
    moved = inputs["input_ids"].clone()
    moved[1] = moved[1].roll(1)
    sizes = torch.tensor([[1, 6, 8], [1, 8, 6]])
    with attach(model, Same()):
        with pytest.raises(ValueError, match="pictures at different places; run them apart, or .*layout=Layout"):
            output(model, {**inputs, "input_ids": moved})
        with pytest.raises(ValueError, match=r"rows hold pictures of different sizes \[\[1, 6, 8\], \[1, 8, 6\]\]"):
            output(model, {**inputs, "image_grid_thw": sizes})
        with pytest.raises(ValueError, match="inputs_embeds do not tell which tokens are pictures; give input_ids"):
            output(model, {"inputs_embeds": torch.randn(2, 5, 32)})


def test_grids_are_read_from_places_as_from_sizes() -> None:
    ids = sentence(2, -6, 1)
    rows, columns = torch.cartesian_prod(torch.arange(2), torch.arange(3)).T
    places = torch.arange(ids.shape[1]).expand(3, 2, -1).clone()
    places[0, :, 3:9], places[1, :, 3:9], places[2, :, 3:9] = 3, 3 + rows, 3 + columns
    assert grids_of_places(ids, places, MARKS) == {"image": [(1, 2, 3)], "video": []}
    places[1:, 1] = places[1:, 1].flip(0)
    with pytest.raises(ValueError, match="rows hold pictures of different sizes"):
        grids_of_places(ids, places, MARKS)


def test_joining_goes_on_where_text_ended_and_cuts_runs_by_grids() -> None:
    before = Layout((Segment("text", "text", 2), Segment("image", "image", 4, (1, 2, 2))))
    names = ["image"] * 9 + ["text"] * 2 + ["video"] * 8
    whole = joined(before, names, {"image": [(1, 2, 2)], "video": [(2, 2, 2)]})
    assert whole.describe() == "text 2 | image 4 (1x2x2) | image2 4 (1x2x2) | image3 5 | text2 2 | video 8 (2x2x2)"
    assert joined(whole, ["video"], {}).segments[-1] == Segment("video2", "image", 1)
    assert joined(Layout.plain(2), ["text"], {}) == Layout.plain(3)
