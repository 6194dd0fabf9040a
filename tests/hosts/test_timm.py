"""timm's transformers: places of any picture size, prefix tokens, and the switch that hides attention."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import SelectorError, SilentSiteError
from saccade.core.layout import Layout
from saccade.core.site import at
from saccade.papers.clear import Clear
from tests.hosts.stand_ins import Masked, Same, looking
from tests.hosts.tiny import BY_NAME, PLAIN, output
from tests.hosts.vits import create, library

pytestmark = [pytest.mark.host, pytest.mark.bad_input]


def layouts(model: nn.Module, *shapes: tuple[int, int]) -> list[str]:
    """What the first site says of its tokens, for pictures of these sizes."""
    found: list[str] = []
    with attach(model.eval(), looking(lambda call: found.append(call.layout_q.describe())), where=at("blocks.0.attn")):
        for height, width in shapes:
            output(model, {"x": torch.randn(1, 3, height, width)})
    return found


@pytest.mark.parametrize(
    ("more", "shape", "says"),
    [
        ({"dynamic_img_size": True}, (24, 40), "prefix 1 | image 60 (1x6x10)"),
        ({"dynamic_img_size": True, "dynamic_img_pad": True}, (23, 38), "prefix 1 | image 60 (1x6x10)"),
        ({"img_size": (16, 24)}, (16, 24), "prefix 1 | image 24 (1x4x6)"),
        ({"reg_tokens": 4}, (32, 32), "prefix 5 | image 64 (1x8x8)"),
        ({"class_token": False, "global_pool": "avg"}, (32, 32), "image 64 (1x8x8)"),
    ],
    ids=["dynamic", "padded", "oblong", "registers", "image-only"],
)
def test_the_grid_is_that_of_the_picture(more: dict[str, Any], shape: tuple[int, int], says: str) -> None:
    assert layouts(create("vit_tiny_patch16_224", **more), shape) == [says]


def test_one_attachment_serves_pictures_of_several_sizes() -> None:
    model = create("vit_tiny_patch16_224", dynamic_img_size=True)
    assert layouts(model, (32, 32), (16, 24)) == ["prefix 1 | image 64 (1x8x8)", "prefix 1 | image 24 (1x4x6)"]


def test_a_window_leaves_prefix_tokens_dense() -> None:
    """A class token reads every patch and every patch reads it; patches far apart do not meet in one layer."""
    model = create("vit_tiny_patch16_224", depth=1).eval()
    seen: list[AttentionCall] = []
    with attach(model, Clear(radius=1.5), looking(seen.append)):
        output(model, {"x": torch.randn(1, 3, 32, 32)})
    (call,) = seen
    assert call.mask is not None
    sees = call.mask.materialize(call.layout_q, call.layout_k)[0, 0]
    assert sees[0].all() and sees[:, 0].all()
    assert sees[1].nonzero().flatten().tolist() == [0, 1, 2, 9, 10]  # the class token, itself, and its neighbours


def test_bias_that_a_host_adds_to_its_scores_is_kept_under_a_window() -> None:
    model, inputs = BY_NAME["beit"].build()
    seen: list[AttentionCall] = []
    with attach(model, Masked(), looking(seen.append)):
        windowed = output(model, inputs)
        assert all(call.bias is not None and call.mask is not None for call in seen)
        for block in model.blocks:
            block.attn.relative_position_bias_table.data += torch.randn_like(block.attn.relative_position_bias_table)
        assert (output(model, inputs) - windowed).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["vit", "eva", "beit"])
def test_attention_by_hand_is_refused_with_the_switch_to_set(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    model.blocks[1].attn.fused_attn = False
    before = output(model, inputs)
    with pytest.raises(
        SilentSiteError, match=r"'blocks\.1\.attn' cannot be reached: fused_attn=False.*set fused_attn = True"
    ):
        attach(model, Same())
    assert torch.equal(output(model, inputs), before)
    model.blocks[1].attn.fused_attn = True
    with attach(model, Same()):
        output(model, inputs)
        model.blocks[0].attn.fused_attn = False
        with pytest.raises(
            SilentSiteError, match=r"'blocks\.0\.attn' are not seen: .*timm\.layers\.set_fused_attn\(\)"
        ):
            output(model, inputs)


def test_the_mend_that_is_named_works() -> None:
    layers = library().layers
    layers.set_fused_attn(False)
    try:
        switched_off = create("vit_tiny_patch16_224")
    finally:
        layers.set_fused_attn()
    with pytest.raises(SilentSiteError, match="fused_attn=False"):
        attach(switched_off, Same())
    with attach(create("vit_tiny_patch16_224").eval(), Same()) as run:
        output(run.target, {"x": torch.randn(1, 3, 32, 32)})
    assert [site.calls for site in run.report().sites] == [1, 1]


@pytest.mark.parametrize("name", ["vit", "eva", "beit"])
def test_methods_that_pass_by_the_forward_are_refused_while_systems_are_attached(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    features, kept = model.forward_features(inputs["x"]), dict(vars(model))
    with attach(model):
        assert torch.equal(model.forward_features(inputs["x"]), features)
    with attach(model, Same()):
        output(model, inputs)
        for method in (model.forward_features, model.forward_intermediates):
            with pytest.raises(SilentSiteError, match=r"\.forward_\w+\(\) passes by .*; call the model itself"):
                method(inputs["x"])
        output(model, inputs)
    assert vars(model) == kept and torch.equal(model.forward_features(inputs["x"]), features)


def test_features_come_from_the_model_itself_made_without_head_and_pooling() -> None:
    model = create("vit_tiny_patch16_224", num_classes=0, global_pool="").eval()
    x = torch.randn(2, 3, 32, 32)
    plain = model.forward_features(x)
    with attach(model, Same()):
        torch.testing.assert_close(model(x), plain, rtol=1e-4, atol=1e-5)


class Switched(nn.Module):
    """Attention with timm's switch in a module of no family."""

    num_heads, fused_attn = 2, False

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x) if self.fused_attn else x


def test_the_switch_is_known_in_plain_modules_too() -> None:
    with pytest.raises(SilentSiteError, match="'self' cannot be reached: fused_attn=False"):
        attach(Switched(), Same(), layout=PLAIN)


def test_a_class_of_the_same_name_from_elsewhere_is_not_taken_for_timms() -> None:
    other = type("VisionTransformer", (Switched,), {"fused_attn": True})
    with pytest.raises(ValueError, match=r"no host family knows VisionTransformer; .*timm\.VisionTransformer"):
        attach(other(), Same())


def test_a_rotary_table_of_another_kind_is_refused_where_it_is_needed() -> None:
    model = create("vit_small_patch16_dinov3").eval()
    inputs = {"x": torch.randn(2, 3, 32, 32)}
    plain = output(model, inputs)
    with attach(model, Same()):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    with attach(model, looking(lambda call: None, "host.rotary")):
        with pytest.raises(ValueError, match="rope=RotaryEmbeddingDinoV3 .* leave out what needs host.rotary"):
            output(model, inputs)


def test_dropped_patches_do_not_fit_the_layout() -> None:
    model = create("vit_tiny_patch16_224", patch_drop_rate=0.5).train()
    with attach(model, Same()), pytest.raises(ValueError, match="got 33 queries and 33 keys, its layout says 65"):
        model(torch.randn(1, 3, 32, 32))


def test_other_transformers_of_timm_are_attached_by_hand() -> None:
    model = library().create_model("visformer_tiny", img_size=64, num_classes=5).eval()
    with pytest.raises(ValueError, match=r"no host family knows Visformer; .*layout=Layout"):
        attach(model, Same())
    blocks = create("vit_tiny_patch16_224").eval().blocks
    with attach(blocks, Same(), layout=Layout.image_only((1, 8, 8))) as run:
        blocks(torch.randn(1, 64, 32))
    assert [site.calls for site in run.report().sites] == [1, 1]


@pytest.mark.parametrize("kind", ["ResPostBlock", "ParallelThingsBlock", "differential"])
def test_blocks_of_every_make_are_read(kind: str) -> None:
    """Norm after attention, two attentions side by side, and two calls whose difference counts."""
    blocks = library().models.vision_transformer
    more = {"attn_layer": "diff"} if kind == "differential" else {"block_fn": getattr(blocks, kind), "init_values": 1.0}
    model, inputs = create("vit_tiny_patch16_224", **more).eval(), {"x": torch.randn(2, 3, 32, 32)}
    plain, seen = output(model, inputs), []

    def look(call: AttentionCall) -> None:
        seen.append(torch.equal(call.host.enter(call.host.stream), call.host.hidden))

    with attach(model, looking(look, "host.hidden", "host.stream", "host.enter")):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    assert all(seen) and len(seen) == (2 if kind == "ResPostBlock" else 4)
    with attach(model, Masked()):
        assert (output(model, inputs) - plain).abs().max() > 1e-6


def test_blocks_that_hold_their_own_attention_are_no_sites() -> None:
    block = library().models.vision_transformer.ParallelScalingBlock
    with pytest.raises(SelectorError, match="no attention sites"):
        attach(create("vit_tiny_patch16_224", block_fn=block), Same())
