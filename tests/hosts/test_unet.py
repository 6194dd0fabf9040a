"""A family whose sites of one kind have different tokens: a U-Net, described by hand."""

import math
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.site import Site, at
from saccade.families import Family
from saccade.seam.family import Inputs, Layouts, joint_layouts
from saccade.seam.routes import diffusers_routes
from tests.hosts.stand_ins import Masked, Same, looking
from tests.hosts.tiny import output

pytestmark = pytest.mark.host
SHRUNK = {"down_blocks.0": 1, "down_blocks.1": 2, "mid_block": 2, "up_blocks.0": 2, "up_blocks.1": 1}


def layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    by = next(by for name, by in SHRUNK.items() if site.name.startswith(name))
    image = Layout.image_only((1, *(side // by for side in inputs["sample"].shape[-2:])))
    words = Layout.plain(inputs["encoder_hidden_states"].shape[1])
    return image, words if site.kind == "cross" else image


UNET = Family(
    name="U-Net", classes=("UNet2DConditionModel",), sites={"*.attn1": "self", "*.attn2": "cross"}, layout=layout,
    by_site=True, routes=diffusers_routes, main_input="sample", text="apart",
)  # fmt: skip


def unet() -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32),
        norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    given = {"sample": torch.randn(1, 4, 8, 4), "encoder_hidden_states": torch.randn(1, 3, 8)}
    return model.eval(), {**given, "timestep": 500, "return_dict": False}


def test_every_site_has_its_own_tokens() -> None:
    model, inputs = unet()
    found: dict[str, tuple[int, ...]] = {}

    def look(call: AttentionCall) -> None:
        assert call.q.shape[2] == math.prod(call.layout_q.image.grid or ())
        found[call.site.name] = call.layout_q.image.grid or ()

    with attach(model, looking(look), family=UNET):
        output(model, inputs)
    assert set(found.values()) == {(1, 8, 4), (1, 4, 2)}


def test_it_runs_through_saccade_as_by_itself_and_can_be_masked() -> None:
    model, inputs = unet()
    plain = output(model, inputs)
    with attach(model, Same(), family=UNET):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    with attach(model, Masked(), family=UNET, where=at(kind="self")) as run:
        assert not torch.allclose(output(model, inputs), plain)
    assert len({site.density for site in run.report().sites if not site.note}) == 2


def test_a_family_that_does_not_say_so_asks_once_for_each_kind() -> None:
    model, inputs = unet()
    asked: list[str] = []

    def ask(model: Any, inputs: Inputs, site: Site) -> Layouts:
        asked.append(site.kind)
        return joint_layouts(Layout.plain(32))

    alike = Family(**{**vars(UNET), "by_site": False, "layout": ask})
    with attach(model, Same(), family=alike, where=at("down_blocks.0*")):
        output(model, inputs)
    assert asked == ["self"]
