"""U-Nets: sites of one kind differ in their tokens, and modules of one name in their kind."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.site import Site, Where, at
from saccade.families.unet import UNET
from saccade.seam.family import Inputs, Layouts, joint_layouts
from tests.hosts.host import Host
from tests.hosts.models.unets import kandinsky3, unet, unet_added
from tests.hosts.models.unets_control import controlnet_xs
from tests.hosts.stand_ins import Masked, Same, looking
from tests.hosts.tiny import output

pytestmark = pytest.mark.host
ALL = Where(kinds=("joint", "self", "cross"))


def one_row(**options: Any) -> tuple[Any, dict[str, Any]]:
    """One batch row without padding."""
    torch.manual_seed(0)
    model, inputs = unet(**options)
    del inputs["encoder_attention_mask"]
    return model.eval(), {key: x[:1] if isinstance(x, Tensor) else x for key, x in inputs.items()}


def keys_of(model: Any, inputs: dict[str, Any]) -> dict[str, str]:
    """Kind and keys of every site that ran; running it through saccade changes nothing."""
    plain, found = output(model, inputs), dict[str, str]()

    def look(call: AttentionCall) -> None:
        assert call.q.shape[2] == math.prod(call.layout_q.image.grid or ())
        found[call.site.name] = f"{call.site.kind}: {call.layout_k.describe()}"

    with attach(model, looking(look), where=ALL):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    return found


def test_every_site_has_its_own_tokens_and_can_be_masked() -> None:
    model, inputs = one_row()
    assert {k for k in keys_of(model, inputs).values() if k.startswith("self")} == {
        "self: image 32 (1x8x4)", "self: image 8 (1x4x2)",
    }  # fmt: skip
    plain = output(model, inputs)
    with attach(model, Masked(), where=at(kind="self")) as run:
        assert not torch.allclose(output(model, inputs), plain)
    assert len({site.density for site in run.report().sites if not site.note}) == 2


@pytest.mark.parametrize("padding", [0, 1])
def test_odd_sides_are_halved_as_the_convolutions_do(padding: int) -> None:
    model, inputs = one_row(downsample_padding=padding)
    keys = keys_of(model, {**inputs, "sample": torch.randn(1, 4, 7, 5)})
    assert keys["mid_block.attentions.0.transformer_blocks.0.attn1"] == (
        "self: image 12 (1x4x3)" if padding else "self: image 6 (1x3x2)"
    )


def test_a_family_that_does_not_say_so_asks_once_for_each_kind() -> None:
    model, inputs = one_row()
    asked: list[str] = []

    def ask(model: Any, inputs: Inputs, site: Site) -> Layouts:
        asked.append(site.kind)
        return joint_layouts(Layout.plain(32))

    alike = replace(UNET, by_site=False, layout=ask)
    with attach(model, Same(), family=alike, where=at("down_blocks.0*")):
        output(model, inputs)
    assert asked == ["self"]


def test_blocks_of_text_alone_call_their_first_attention_with_it() -> None:
    keys = keys_of(*one_row(only_cross_attention=True))
    assert {keys[name] for name in keys if not name.startswith("mid_block")} == {"cross: text 3"}


def test_upscalers_attend_in_blocks_of_another_make() -> None:
    model, inputs = one_row(
        down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3), mid_block_type=None, attention_head_dim=8,
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"), block_out_channels=(32, 32, 64, 64),
        resnet_time_scale_shift="scale_shift", act_fn="gelu", time_embedding_type="fourier", norm_num_groups=None,
    )  # fmt: skip
    keys = keys_of(model, {**inputs, "sample": torch.randn(1, 4, 16, 16)})
    assert set(keys.values()) == {"self: image 4 (1x2x2)", "cross: text 3"}


@pytest.mark.parametrize("way", ["image_proj", "text_image_proj"])
def test_kandinsky_2_gives_tokens_of_a_picture(way: str) -> None:
    """Alone, or before the text; both before the image, whose queries see all of them."""
    torch.manual_seed(0)
    model, inputs = unet_added(encoder_hid_dim_type=way, encoder_hid_dim=8)
    inputs |= {"encoder_attention_mask": None, "added_cond_kwargs": {"image_embeds": torch.randn(2, 8)}}
    inputs["encoder_hidden_states"] = None if way == "image_proj" else inputs["encoder_hidden_states"]
    words = "picture 32" if way == "image_proj" else "picture 10 | text 3"
    assert keys_of(model.eval(), inputs)["down_blocks.0.attentions.0"] == f"joint: {words} | image 32 (1x8x4)"


def test_keys_that_hang_on_a_norm_of_all_tokens_are_not_projected() -> None:
    model, inputs = Host("added", unet_added).build()
    project = looking(lambda call: call.host.project(call.host.hidden), "host.project", "host.hidden")
    with attach(model, project), pytest.raises(ValueError, match=r"call\.k and call\.v"):
        output(model, inputs)


def test_keys_of_an_image_prompt_are_the_hosts_own_business() -> None:
    from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
    from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection

    model, inputs = one_row()
    for name, module in model.named_modules():
        if hasattr(module, "processor"):
            adapted = IPAdapterAttnProcessor2_0(module.to_q.in_features, 8, num_tokens=(4,))
            module.set_processor(adapted if name.endswith("attn2") else AttnProcessor2_0())
    model.encoder_hid_proj = MultiIPAdapterImageProjection([ImageProjection(8, 8, 4)])
    model.register_to_config(encoder_hid_dim_type="ip_image_proj")
    inputs["added_cond_kwargs"] = {"image_embeds": [torch.randn(1, 1, 8)]}
    model.eval()
    assert "cross: text 3" in keys_of(model, inputs).values()
    other = {**inputs, "added_cond_kwargs": {"image_embeds": [torch.randn(1, 1, 8)]}}
    with attach(model, Same(), where=ALL):
        assert (output(model, other) - output(model, inputs)).abs().max() > 1e-6


def test_control_that_is_not_applied_runs_no_site() -> None:
    model, inputs = Host("xs", controlnet_xs).build()
    names = keys_of(model, {**inputs, "apply_control": False})
    assert names and not any(".ctrl_" in name for name in names)


def test_padded_text_reaches_kandinsky_3_by_its_time_embedding_alone() -> None:
    model, inputs = Host("kandinsky3", kandinsky3).build()
    text = inputs["encoder_hidden_states"]
    other = {**inputs, "encoder_hidden_states": torch.cat((text[:, :2], text[:, 2:] + 1), dim=1)}
    with attach(model, Masked()):
        assert not torch.allclose(output(model, inputs)[1], output(model, other)[1])
        model.add_time_condition.forward = lambda x, context, mask: x
        torch.testing.assert_close(output(model, inputs)[1], output(model, other)[1], rtol=1e-4, atol=1e-5)
