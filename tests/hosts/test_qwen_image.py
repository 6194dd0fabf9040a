"""Qwen-Image with more than one picture in its sequence: references, and the layers of a picture."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import output

pytestmark = pytest.mark.host
GRIDS = ((1, 4, 5), (1, 2, 3), (1, 3, 2))


def pictures(grids: tuple[tuple[int, int, int], ...], layered: bool) -> tuple[nn.Module, dict[str, Any]]:
    """A tiny model and inputs with one picture for each grid."""
    from diffusers import QwenImageTransformer2DModel

    torch.manual_seed(0)
    model = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 8), use_layer3d_rope=layered,
    )  # fmt: skip
    return model.eval(), {
        "hidden_states": torch.randn(1, sum(h * w for _, h, w in grids), 16),
        "encoder_hidden_states": torch.randn(1, 3, 16),
        "timestep": torch.tensor([0.5]),
        "img_shapes": [list(grids)],
        "return_dict": False,
    }


@pytest.mark.parametrize("layered", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_places_are_those_the_host_rotates_by(count: int, layered: bool) -> None:
    """Turned back, the keys of all pictures are those that the module's own projection and norm give."""
    model, inputs = pictures(GRIDS[:count], layered)
    found: list[tuple[Tensor, Tensor]] = []

    def look(call: AttentionCall) -> None:
        raw, hidden = call.host.raw(call.k)[:, :, 3:], call.host.hidden[:, 3:]
        found.append((raw, call.host.project(hidden)[0]))
        assert call.layout_k.describe() == " | ".join(
            ("text 3", "image 20 (1x4x5)", "reference1 6 (1x2x3)", "reference2 6 (1x3x2)")[: count + 1]
        )

    with attach(model, looking(look, "host.rotary", "host.raw", "host.hidden", "host.project")):
        output(model, inputs)
    ((raw, projected),) = found
    torch.testing.assert_close(raw, projected, rtol=1e-4, atol=2e-6)


def test_layers_of_a_picture_are_one_grid_and_the_picture_they_make_up_a_reference() -> None:
    model, inputs = pictures(((1, 2, 3),) * 3 + ((1, 2, 2),), layered=True)
    found: list[str] = []

    def look(call: AttentionCall) -> None:
        raw, hidden = call.host.raw(call.k)[:, :, 3:], call.host.hidden[:, 3:]
        torch.testing.assert_close(raw, call.host.project(hidden)[0], rtol=1e-4, atol=2e-6)
        found.append(call.layout_k.describe())

    with attach(model, looking(look, "host.rotary", "host.raw", "host.hidden", "host.project")):
        output(model, inputs)
    assert found == ["text 3 | image 18 (3x2x3) | reference1 4 (1x2x2)"]


@pytest.mark.parametrize("layered", [False, True])
def test_words_stand_beyond_the_largest_picture(layered: bool) -> None:
    model, inputs = pictures(((1, 2, 2),) * 4, layered)
    found: list[Tensor] = []
    with attach(model, looking(lambda call: found.append(call.host.rotary.angles()[:3]), "host.rotary")):
        output(model, inputs)
    host = model.pos_embed(inputs["img_shapes"], max_txt_seq_len=3, device=torch.device("cpu"))[1]
    torch.testing.assert_close(torch.polar(torch.ones_like(found[0]), found[0]).to(host.dtype), host)
