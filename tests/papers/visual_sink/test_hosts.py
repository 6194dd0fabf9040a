"""Calls of several kin of models, each against its own map: what leaves a call is the redistributed map times v."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Parts
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.papers.visual_sink import SinkRedistribution, find_sinks, redistributed
from tests.hosts.transformers.pictured import IMAGE, qwen2_vl_inputs, sentence
from tests.hosts.transformers.texts import SHARED
from tests.papers.visual_sink.models import llava, pictures, prompts

pytestmark = pytest.mark.host
DIMS, OPTIONS = (3, 5), {"rho": 0.3, "least": 0.05, "take": 0.7}


@dataclass(frozen=True, kw_only=True, eq=False)
class Checked(Mechanism):
    """Compares, and notes layers and how far outputs moved."""

    needs = frozenset({"host.stream"})
    tau: float
    moved: dict[int, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "checked"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self,)

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        shared = call.q.shape[1] // call.k.shape[1]
        k, v = (x.repeat_interleave(shared, dim=1) for x in (call.k, call.v))
        scores = (call.q @ k.mT * call.scale).float()
        n = scores.shape[-1]
        alpha = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1)
        image = call.layout_k.is_("image")[None]
        sinks = find_sinks(call.host.stream, DIMS, self.tau)
        made = redistributed(alpha, image, sinks, queries=~image, **OPTIONS)
        out = parts.total.float()
        self.moved[call.site.layer] = float((out - alpha.to(v.dtype) @ v).abs().max())
        if 2 <= call.site.layer < call.site.layers - 1:
            rounding = {"rtol": 1e-4, "atol": 1e-5} if v.dtype == torch.float32 else {"rtol": 0.05, "atol": 0.02}
            torch.testing.assert_close(out, made.to(v.dtype).float() @ v.float(), **rounding)


def deep(text: dict[str, Any]) -> dict[str, Any]:
    return {**text, "num_hidden_layers": 5}


def qwen2_vl() -> tuple[nn.Module, dict[str, Any]]:
    """Two pictures of different sizes."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    text = {**deep(SHARED), "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
    vision: dict[str, Any] = {
        "depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    config = Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=36, video_token_id=37, vision_start_token_id=38,
        vision_end_token_id=39,
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config), qwen2_vl_inputs((1, 4, 8), (1, 6, 4))


def llava_next() -> tuple[nn.Module, dict[str, Any]]:
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

    vision: dict[str, Any] = {
        "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 4,
    }  # fmt: skip
    config = LlavaNextConfig(
        text_config={"model_type": "llama", **deep(SHARED)}, vision_config=vision, image_token_index=IMAGE,
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
    )  # fmt: skip
    return LlavaNextForConditionalGeneration(config), {
        "input_ids": sentence(3, -46, 2), "pixel_values": torch.randn(2, 3, 3, 16, 16),
        "image_sizes": torch.tensor([[24, 16]] * 2), "use_cache": False,
    }  # fmt: skip


def tiny_llava() -> tuple[nn.Module, dict[str, Any]]:
    return llava(), {"input_ids": prompts(2), "pixel_values": pictures(2), "use_cache": False}


def ran(model: nn.Module, inputs: dict[str, Any], *systems: Any) -> Tensor:
    with attach(model, *systems), torch.no_grad():
        return model(**{**inputs, "return_dict": True}).logits


@pytest.mark.parametrize("make", [tiny_llava, llava_next, qwen2_vl])
def test_every_kin_is_redistributed_by_its_own_map(make: Any) -> None:
    torch.manual_seed(1)
    model, inputs = make()
    checked = Checked(tau=1.3)
    ran(model.eval(), inputs, SinkRedistribution(dims=DIMS, tau=1.3, **OPTIONS), checked)
    assert sorted(checked.moved) == [0, 1, 2, 3, 4]
    assert min(checked.moved[2], checked.moved[3]) > 1e-4
    assert max(checked.moved[layer] for layer in (0, 1, 4)) < 1e-5


def test_half_precision_chooses_by_weights_in_single_precision() -> None:
    torch.manual_seed(1)
    model, inputs = tiny_llava()
    inputs = {**inputs, "pixel_values": inputs["pixel_values"].bfloat16()}
    out = ran(model.bfloat16(), inputs, SinkRedistribution(dims=DIMS, tau=1.3, **OPTIONS), Checked(tau=1.3))
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


def test_as_released_the_last_layer_changes_too() -> None:
    model, inputs = tiny_llava()
    checked = Checked(tau=1.3)
    ran(model, inputs, SinkRedistribution(dims=DIMS, tau=1.3, compat="official", **OPTIONS), checked)
    assert checked.moved[4] > 1e-4 and max(checked.moved[0], checked.moved[1]) < 1e-5


def test_as_released_text_between_pictures_stays() -> None:
    torch.manual_seed(1)
    model, inputs = qwen2_vl()
    model, after = model.eval(), 4 + 8 + 4 + 6  # two pictures among words and marks
    plain = ran(model, inputs)
    ours, theirs = (
        ran(model, inputs, SinkRedistribution(dims=DIMS, tau=1.3, compat=compat, **OPTIONS)) - plain
        for compat in (None, "official")
    )
    assert ours[:, :after].abs().max() > 1e-6 and not theirs[:, :after].abs().max() > 1e-6
    assert theirs[:, after:].abs().max() > 1e-6
