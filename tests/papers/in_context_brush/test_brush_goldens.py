"""Agreement with the released code, run on one row of an odd number of image tokens: through FLUX's own attention."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import plain_call
from saccade.core.layout import Layout, Segment
from saccade.ops.parts import attend_parts
from saccade.papers.in_context_brush import InContextBrush
from saccade.papers.in_context_brush.context_shift import contribution, head_weights

pytestmark = pytest.mark.host
FILE = Path(__file__).resolve().parents[2] / "goldens" / "in-context-brush" / "case_attention_one_row.safetensors"
CLOSE = {"atol": 2e-6, "rtol": 0}
TEXT, IMAGE, WIDTH = 512, 7, 12
LAYOUT = Layout((Segment("text", "text", TEXT), Segment("image", "image", IMAGE, (1, 1, IMAGE))))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(FILE)


def attention() -> Any:
    """diffusers' joint attention of FLUX whose projections pick q, k and v out of the file's, one beside the other."""
    from diffusers.models.transformers.transformer_flux import FluxAttention

    module = FluxAttention(
        query_dim=3 * WIDTH, heads=3, dim_head=4, added_kv_proj_dim=3 * WIDTH, out_dim=WIDTH, context_pre_only=False,
        out_bias=False, added_proj_bias=False,
    )  # fmt: skip
    module.norm_q = module.norm_k = module.norm_added_q = module.norm_added_k = nn.Identity()
    for i, (own, added) in enumerate((("to_q", "add_q_proj"), ("to_k", "add_k_proj"), ("to_v", "add_v_proj"))):
        for name in (own, added):
            pick(getattr(module, name), i * WIDTH)
    pick(module.to_out[0], 0)
    nn.init.zeros_(module.to_add_out.weight)
    module.to_add_out.weight.data[:WIDTH] = torch.eye(WIDTH)
    return module.eval()


def pick(linear: nn.Linear, start: int) -> None:
    nn.init.zeros_(linear.weight)
    linear.weight.data[:, start : start + WIDTH] = torch.eye(WIDTH)


def through(tensors: dict[str, Tensor], *systems: Any) -> tuple[Tensor, Tensor]:
    """Image and text stream of the module, heads side by side."""
    streams = torch.cat([tensors[name].transpose(1, 2).flatten(2) for name in "qkv"], dim=-1)
    with attach(attention(), *systems, layout=LAYOUT) as run, torch.no_grad():
        image, text = run.target(hidden_states=streams[:, TEXT:], encoder_hidden_states=streams[:, :TEXT])
    return image, text[..., :WIDTH]


def test_the_file_is_passed_through_the_module_unchanged(tensors: dict[str, Tensor]) -> None:
    image, _ = through(tensors)
    torch.testing.assert_close(image, tensors["base_head_out_image"].transpose(1, 2).flatten(2), **CLOSE)


def test_a_double_stream_block_of_the_released_code(tensors: dict[str, Tensor]) -> None:
    image, text = through(tensors, InContextBrush(compat="official", text_tokens=TEXT))
    torch.testing.assert_close(image, tensors["double_out_image"], **CLOSE)
    torch.testing.assert_close(text[:, :16], tensors["double_out_text_first16"], **CLOSE)


def test_partial_outputs_text_masses_and_weights(tensors: dict[str, Tensor]) -> None:
    call = plain_call(*(tensors[name] for name in "qkv"), layout=LAYOUT)
    at = InContextBrush(compat="official").roles.on(LAYOUT, LAYOUT)
    assert (at.query, at.demo, at.text) == (slice(TEXT + 3, TEXT + 7), slice(TEXT, TEXT + 3), slice(0, TEXT))
    parts = attend_parts(call, want_lse=True)
    text, demo = (contribution(call, parts, at.query, keys) for keys in (at.text, at.demo))
    assert text is not None and demo is not None
    torch.testing.assert_close(text[0], tensors["demo_txt"], **CLOSE)
    torch.testing.assert_close(demo[0], tensors["demo_img"], **CLOSE)
    scores = text[1].sum(-1)
    torch.testing.assert_close(scores, tensors["head_scores"], **CLOSE)
    torch.testing.assert_close(head_weights(scores, 0.2), tensors["head_weights"], **CLOSE)


def test_the_figure_differs_in_the_rows_it_scales_alone(tensors: dict[str, Tensor]) -> None:
    explicit = InContextBrush(demo=(0, 1, 2), query=(3, 4, 5, 6))
    image, text = through(tensors, explicit)
    base, base_text = through(tensors)
    torch.testing.assert_close(image[:, 3:], tensors["double_out_image"][:, 3:], **CLOSE)
    assert torch.equal(text, base_text)
    assert torch.equal(image[:, :3], base[:, :3])


def test_without_compat_seven_tokens_have_no_halves(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="an image of 7 columns of tokens has no equal halves"):
        through(tensors, InContextBrush(demo="left"))
