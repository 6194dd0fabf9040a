"""What models of Wan's make have in addition: control blocks, references, chunks in causal order, pictures to go by."""

from typing import Any

import pytest
import torch
from torch import nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.site import Where, at
from tests.hosts.host import output
from tests.hosts.models import wan_kin
from tests.hosts.stand_ins import Masked, Same, looking
from tests.hosts.tiny import MORE

pytestmark = pytest.mark.host
HOSTS = {host.name: host for host in MORE}
EVERY_KIND = Where(kinds=("joint", "self", "cross"))


def calls(model: nn.Module, inputs: dict[str, Any], where: Where = EVERY_KIND) -> list[AttentionCall]:
    """Every call of a forward that goes through saccade and gives what the model gives by itself."""
    plain, found = output(model, inputs), list[AttentionCall]()
    with attach(model, looking(found.append), where=where):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    return found


def test_control_blocks_come_first_and_are_chosen_by_name() -> None:
    model, inputs = HOSTS["wan_vace"].build()
    ran = [call.site.name for call in calls(model, inputs)]
    with attach(model, Same(), where=EVERY_KIND) as run:
        assert [site.name for site in run.sites] == ran
        assert [site.index for site in run.sites] == list(range(10))
        assert {site.name.split(".")[0]: site.stage for site in run.sites} == {"vace_blocks": 0, "blocks": 1}


def test_a_mask_at_control_blocks_is_heard_by_as_much_as_control_weighs() -> None:
    model, inputs = HOSTS["wan_vace"].build()
    silent = {**inputs, "control_hidden_states_scale": torch.zeros(2)}
    plain, alone = output(model, inputs), output(model, silent)
    with attach(model, Masked(), where=at("vace_blocks.*")):
        assert torch.equal(output(model, silent), alone)
        assert not torch.allclose(output(model, inputs), plain)


def test_a_face_is_left_to_the_host_and_says_so() -> None:
    model, inputs = HOSTS["wan_animate"].build()
    with attach(model, Masked()) as run:
        output(model, inputs)
    notes = {site.name: site.note for site in run.report().sites if site.note}
    assert notes.keys() == {"face_adapter.0"} | {f"blocks.{i}.attn2" for i in (0, 1)}
    assert notes["face_adapter.0"].startswith("a frame's tokens read the face of that frame alone")


def test_a_reference_frame_stays_in_sight() -> None:
    model, inputs = HOSTS["wan_animate"].build()
    kinds = {call.layout_k.describe() for call in calls(model, inputs, at("blocks.*.attn1"))}
    assert kinds == {"reference1 6 (1x2x3) | image 18 (3x2x3)"}


@pytest.mark.parametrize(("frames", "last"), [(2, 7), (3, 2)])
def test_the_edited_picture_stands_where_the_frames_left_out_would_lead(frames: int, last: int) -> None:
    model, _ = HOSTS["chrono_edit"].build()
    ids: list[torch.Tensor] = []
    with attach(model, looking(lambda call: ids.append(call.host.rotary.ids), "host.rotary")):
        output(model, wan_kin.video(frames=frames))
    assert ids[0][-1].tolist() == [last, 1, 2]


def test_frames_see_those_of_their_chunk_and_before_under_a_plan() -> None:
    model, inputs = HOSTS["skyreels"].build()
    later = {**inputs, "hidden_states": inputs["hidden_states"].clone()}
    later["hidden_states"][:, :, 2:] += 1
    with attach(model, Masked()):
        one, two = output(model, inputs), output(model, later)
    torch.testing.assert_close(one[:, :, :2], two[:, :, :2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one[:, :, 2:], two[:, :, 2:])


def test_pictures_before_the_words_are_no_text() -> None:
    from diffusers import AnyFlowTransformer3DModel

    _, inputs = HOSTS["anyflow"].build()
    model = AnyFlowTransformer3DModel(**wan_kin.SIZES, image_dim=8).eval()
    given = {**inputs, "encoder_hidden_states_image": torch.randn(2, 5, 8)}
    keys = {call.layout_k.describe() for call in calls(model, given, at(kind="cross"))}
    assert keys == {"pictures 5 | text 6"}


@pytest.mark.parametrize("hears", [True, False])
def test_only_the_video_hears_the_text_unless_the_model_says_so(hears: bool) -> None:
    from diffusers import HeliosTransformer3DModel

    _, inputs = HOSTS["helios"].build()
    sizes = {name: size for name, size in wan_kin.SIZES.items() if name != "rope_max_seq_len"}
    model = HeliosTransformer3DModel(**sizes, rope_dim=(4, 4, 4), guidance_cross_attn=hears).eval()
    found = calls(model, inputs, at(kind="cross"))
    assert {call.layout_q.n for call in found} == {18 if hears else 27}


def test_a_video_without_a_past_is_the_video_alone() -> None:
    model, inputs = HOSTS["helios"].build()
    now = {name: given for name, given in inputs.items() if "history" not in name}
    assert {call.layout_q.describe() for call in calls(model, now)} == {"image 18 (3x2x3)"}


def test_tokens_with_timesteps_of_their_own_are_followed_by_the_largest() -> None:
    """Wan 2.2 TI2V: a first frame that is given is at time 0."""
    from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    model, inputs = WanTransformer3DModel(**wan_kin.SIZES).eval(), wan_kin.video()
    times = torch.full((2, 18), scheduler.timesteps[2].item())
    times[:, :6] = 0
    with attach(model, Masked(), schedule=scheduler) as run:
        output(model, {**inputs, "timestep": times})
        assert run.clock is not None and run.clock.timestep == times.max()
        assert run.clock.num_steps - run.clock.step == 2
