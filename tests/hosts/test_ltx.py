"""What models of LTX's make have in addition: references beside the video, sound, branches that skip attention."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.site import Where
from tests.hosts.host import output
from tests.hosts.models.ltx import places
from tests.hosts.stand_ins import Masked, Same, looking
from tests.hosts.tiny import MORE

pytestmark = pytest.mark.host
HOSTS = {host.name: host for host in MORE}
EVERY_KIND = Where(kinds=("joint", "self", "cross"))


def tokens(name: str, **more: Any) -> dict[str, tuple[str, str]]:
    """Queries and keys of every call, by the last part of the site's name in the first block."""
    model, inputs = HOSTS[name].build()
    found: dict[str, tuple[str, str]] = {}

    def look(call: AttentionCall) -> None:
        assert (call.q.shape[2], call.k.shape[2]) == (call.layout_q.n, call.layout_k.n)
        found.setdefault(call.site.name.split(".")[-1], (call.layout_q.describe(), call.layout_k.describe()))

    with attach(model, looking(look), where=EVERY_KIND):
        output(model, {**inputs, **more})
    return found


def test_video_and_sound_read_their_own_texts_and_one_another() -> None:
    video, sound, text = "image 18 (3x2x3)", "image 4 (4x1x1)", "text 6"
    assert tokens("ltx2") == {
        "attn1": (video, video),
        "audio_attn1": (sound, sound),
        "attn2": (video, text),
        "audio_attn2": (sound, text),
        "audio_to_video_attn": (video, sound),
        "video_to_audio_attn": (sound, video),
    }


def test_what_a_pipeline_appends_to_the_video_is_no_part_of_it() -> None:
    """Keyframes and references of LTX-2's pipelines come after the video, with places of their own."""
    coords = torch.cat((places(3, 2, 3), places(1, 2, 3, start=2)), dim=1)
    bounds = torch.stack((coords, coords + 1), dim=-1).expand(2, -1, -1, -1)
    given = {"hidden_states": torch.randn(2, 24, 4), "video_coords": bounds}
    assert tokens("ltx2", **given)["attn1"][0] == "image 18 (3x2x3) | reference1 6"


def test_some_tokens_of_a_video_have_no_grid() -> None:
    bounds = torch.stack((places(3, 2, 3), places(3, 2, 3) + 1), dim=-1)[:, [0, 3, 5, 7]].expand(2, -1, -1, -1)
    given = {"hidden_states": torch.randn(2, 4, 4), "video_coords": bounds}
    assert tokens("ltx2", **given)["attn1"][0] == "image 4"


def test_a_hosts_map_of_video_pairs_is_part_of_the_call() -> None:
    """As IC-LoRA weighs references: shut pairs stay shut under a plan."""
    model, inputs = HOSTS["ltx2"].build()
    weights = torch.rand(2, 18, 18)
    weights[:, :, 4:9] = 0
    given = {**inputs, "video_self_attention_mask": weights}
    plain = output(model, given)
    assert not torch.allclose(plain, output(model, inputs))
    with attach(model, Same()):
        torch.testing.assert_close(output(model, given), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "silent"),
    [
        ({"spatio_temporal_guidance_blocks": [1]}, {"1.attn1", "1.audio_attn1"}),
        ({"isolate_modalities": True}, {f"{i}.{n}_attn" for i in (0, 1) for n in ("audio_to_video", "video_to_audio")}),
    ],
)
def test_a_weakened_branch_runs_without_the_sites_it_skips(given: dict[str, Any], silent: set[str]) -> None:
    model, inputs = HOSTS["ltx2"].build()
    plain = output(model, {**inputs, **given})
    seen: set[str] = set()
    with attach(model, looking(lambda call: seen.add(call.site.name)), where=EVERY_KIND) as run:
        torch.testing.assert_close(output(model, {**inputs, **given}), plain, rtol=1e-4, atol=1e-5)
        assert run.clock is not None and run.clock.branch == "weak"
        skipped = {site.name.removeprefix("transformer_blocks.") for site in run.sites if site.name not in seen}
    assert skipped == silent


def test_blocks_that_spare_some_rows_attend() -> None:
    model, inputs = HOSTS["ltx2"].build()
    given = {**inputs, "spatio_temporal_guidance_blocks": [1], "perturbation_mask": torch.tensor([1.0, 0.0])}
    seen: set[str] = set()
    with attach(model, looking(lambda call: seen.add(call.site.name))):
        output(model, given)
    assert "transformer_blocks.1.attn1" in seen


def test_places_are_read_again_where_they_change_and_once_where_they_do_not() -> None:
    model, inputs = HOSTS["ltx_references"].build()
    grids: list[Any] = []
    other = torch.cat((places(1, 3, 2, start=2), places(3, 3, 2)), dim=1).expand(2, -1, -1)
    with attach(model, looking(lambda call: grids.append(call.layout_q.image.grid))):
        inputs["video_coords"] = coords = inputs["video_coords"].clone()
        output(model, inputs)
        coords.copy_(other)
        output(model, inputs)
    assert list(dict.fromkeys(grids)) == [(3, 2, 3), (3, 3, 2)]


def test_the_video_alone_is_a_window_when_references_come_first() -> None:
    """A window between image tokens leaves the reference open to all."""
    model, inputs = HOSTS["ltx_references"].build()
    masks: list[Tensor] = []

    def keep(call: AttentionCall) -> None:
        assert call.mask is not None
        masks.append(call.mask.materialize(call.layout_q, call.layout_k))

    with attach(model, Masked(), looking(keep)):
        output(model, inputs)
    assert all(mask[..., :6].all() and not mask[..., 6:].all() for mask in masks)
