"""Agreement with diffusers' own perturbed attention guidance, run on SD3's attention and on a whole small SD3."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.rows import Rows
from saccade.papers.headhunter import SoftPAG
from saccade.papers.headhunter.perturbations import pairs_of, perturbed

pytestmark = pytest.mark.host
FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "headhunter"
CLOSE = {"atol": 1e-6, "rtol": 0}
TOKENS = Layout.joint(text=5, grid=(1, 2, 3), text_first=False)


def attention() -> tuple[Any, dict[str, Tensor]]:
    """diffusers' joint attention with the file's weights."""
    from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0

    tensors = load_file(FOLDER / "case_sd3_joint_attention.safetensors")
    module = Attention(
        query_dim=12, added_kv_proj_dim=12, dim_head=4, heads=3, out_dim=12, context_pre_only=False, bias=True,
        processor=JointAttnProcessor2_0(),
    ).eval()  # fmt: skip
    module.load_state_dict({k.removeprefix("weights."): x for k, x in tensors.items() if k.startswith("weights.")})
    return module, tensors


def weakened(module: Any, tensors: dict[str, Tensor], **options: Any) -> Tensor:
    """The image stream of the perturbed row alone: w = -1 gives out - (out - weak)."""
    with attach(module, SoftPAG(w=-1.0, **options), layout=TOKENS, rows=Rows.of("cond")), torch.no_grad():
        return module(hidden_states=tensors["image_in"], encoder_hidden_states=tensors["text_in"])[0]


def test_heads_are_those_of_the_released_processor() -> None:
    _, tensors = attention()
    q, k, v = (tensors[name][None] for name in "qkv")
    call = plain_call(q, k, v, layout=TOKENS)
    made = perturbed(call, "identity", pairs_of("image_block", TOKENS, TOKENS))
    torch.testing.assert_close(made[0], tensors["head_out_pag"][:, :6], **CLOSE)
    assert torch.equal(tensors["head_out_pag"][:, 6:], tensors["head_out_base"][:, 6:])


def test_a_layer_of_diffusers_own_attention_agrees() -> None:
    module, tensors = attention()
    torch.testing.assert_close(weakened(module, tensors, layers=(0,)), tensors["image_pag_rows"][1:], **CLOSE)
    plain = module(hidden_states=tensors["image_in"], encoder_hidden_states=tensors["text_in"])[0]
    torch.testing.assert_close(plain, tensors["image_pag_rows"][:1], **CLOSE)


@pytest.mark.parametrize(("heads", "u"), [((0, 2), 1.0), ((1,), 0.3), ((0, 1, 2), 0.75)])
def test_some_heads_and_softer_maps_are_mixed_before_the_projection(heads: tuple[int, ...], u: float) -> None:
    module, tensors = attention()
    mixed = tensors["head_out_base"].clone()
    for head in heads:
        mixed[head] = (1 - u) * tensors["head_out_base"][head] + u * tensors["head_out_pag"][head]
    wanted = module.to_out[0](mixed[:, :6].transpose(0, 1).flatten(1))[None]
    made = weakened(module, tensors, heads=tuple((0, head) for head in heads), u=u)
    torch.testing.assert_close(made, wanted, **CLOSE)


def sd3() -> tuple[Any, dict[str, Tensor]]:
    from diffusers import SD3Transformer2DModel

    file = FOLDER / "case_sd3_model.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        model = SD3Transformer2DModel(**json.loads(opened.metadata()["sd3"])).eval()
    weights = {k.removeprefix("sd3."): x for k, x in tensors.items() if k.startswith("sd3.")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.startswith("pos_embed") for name in missing)
    return model, tensors


def inputs(tensors: dict[str, Tensor], *branches: str) -> dict[str, Any]:
    text = {"cond": ("prompt_embeds", "pooled"), "uncond": ("negative_prompt_embeds", "negative_pooled")}
    words, pooled = (torch.cat([tensors[text[branch][i]] for branch in branches]) for i in (0, 1))
    return {
        "hidden_states": tensors["z_T"].expand(len(branches), -1, -1, -1), "encoder_hidden_states": words,
        "pooled_projections": pooled, "timestep": torch.full((len(branches),), 600.0), "return_dict": False,
    }  # fmt: skip


@torch.no_grad()
def test_the_values_alone_are_those_of_the_released_guider() -> None:
    model, tensors = sd3()
    with attach(model, SoftPAG(layers=(1,), scope="all", w=-1.0), rows=Rows.of("cond")):
        made = model(**inputs(tensors, "cond"))[0]
    torch.testing.assert_close(made, tensors["sd3_values_only_layer1"], **CLOSE)
    torch.testing.assert_close(model(**inputs(tensors, "cond"))[0], tensors["sd3_base"], **CLOSE)


@torch.no_grad()
def test_beside_classifier_free_guidance_the_two_add_up_as_in_the_guider() -> None:
    model, tensors = sd3()
    with attach(model, SoftPAG(layers=(1,), scope="all", w=2.5), rows=Rows.of("uncond", "cond")):
        uncond, cond = model(**inputs(tensors, "uncond", "cond"))[0].chunk(2)
    torch.testing.assert_close(uncond + 4 * (cond - uncond), tensors["guider_cfg4_pag2.5"], atol=5e-6, rtol=1e-5)


def test_the_default_steps_of_the_guider_are_a_span() -> None:
    """From 1 % to 20 % of 20 steps, the first left out."""
    from saccade.core.clock import Clock
    from saccade.core.site import at

    _, tensors = sd3()
    system = SoftPAG(layers=(1,), where=at(during=(0.01, 0.2)))
    active = [step for step in range(20) if system.weak_weight(Clock(step=step, num_steps=20))]
    assert active == tensors["default_active_steps_of_20"].tolist()
