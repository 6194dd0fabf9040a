"""GLIGEN's gates: image and grounding tokens in one sequence, in steps where the pipeline leaves the gates open."""

from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.site import at
from tests.hosts import sd_pipelines
from tests.hosts.host import Host, output
from tests.hosts.models.unets import gligen, unet
from tests.hosts.stand_ins import Masked, Same, looking

pytestmark = pytest.mark.host


def gates(model: Any, inputs: dict[str, Any]) -> dict[str, str]:
    """The tokens of every gate that ran."""
    found: dict[str, str] = {}

    def look(call: AttentionCall) -> None:
        assert call.host.hidden.shape[1] == call.layout_q.n == call.q.shape[2]
        found[call.site.name.partition(".attentions")[0]] = call.layout_q.describe()

    with attach(model, looking(look, "host.hidden"), where=at("*.fuser.attn")):
        output(model, inputs)
    return found


def test_a_gate_sees_the_image_of_its_grid_and_a_token_for_each_box() -> None:
    fine, coarse = "image 32 (1x8x4) | grounding 5", "image 8 (1x4x2) | grounding 5"
    assert gates(*Host("gligen", gligen).build()) == {
        "down_blocks.0": fine, "down_blocks.1": coarse, "mid_block": coarse, "up_blocks.0": coarse, "up_blocks.1": fine,
    }  # fmt: skip


def test_phrases_and_pictures_of_boxes_are_two_tokens() -> None:
    masks = {name: torch.ones(2, 3) for name in ("masks", "phrases_masks", "image_masks")}
    embedded = {name: torch.randn(2, 3, 8) for name in ("phrases_embeddings", "image_embeddings")}
    model, inputs = unet(attention_type="gated-text-image")
    boxes = {"gligen": {"boxes": torch.rand(2, 3, 4), **masks, **embedded}}
    found = gates(model.eval(), {**inputs, "cross_attention_kwargs": boxes})
    assert found["mid_block"] == "image 8 (1x4x2) | grounding 6"


@pytest.mark.parametrize("how", ["switched off", "nothing given", "other arguments"])
def test_gates_that_are_shut_are_left_to_the_host(how: str) -> None:
    model, inputs = Host("gligen", gligen).build()
    if how == "switched off":
        for module in model.modules():
            if type(module).__name__ == "GatedSelfAttentionDense":
                module.enabled = False
    else:
        inputs["cross_attention_kwargs"] = {"scale": 1.0} if how == "other arguments" else None
    before = output(model, inputs)
    assert not gates(model, inputs)
    with attach(model, Same()):
        torch.testing.assert_close(output(model, inputs), before, rtol=1e-4, atol=1e-5)


def test_grounding_tokens_reach_the_image_under_a_mask_by_place() -> None:
    model, inputs = Host("gligen", gligen).build()
    with attach(model, Masked()):
        one = output(model, inputs)
        inputs["cross_attention_kwargs"]["gligen"]["boxes"] += 0.3
        assert (output(model, inputs) - one).abs().max() > 1e-6


def test_the_pipeline_opens_the_gates_in_its_first_steps() -> None:
    pipe, seen = sd_pipelines.gligen(), set[tuple[int, str]]()

    def look(call: AttentionCall) -> None:
        assert run.clock is not None
        seen.add((run.clock.step, call.layout_q.describe()))

    boxes = {"gligen_phrases": ["a circle"], "gligen_boxes": [[0.1, 0.1, 0.5, 0.6]]}
    with attach(pipe, looking(look), where=at("down_blocks.0*.fuser.attn")) as run:
        pipe(
            "a red circle", height=32, width=32, num_inference_steps=4, gligen_scheduled_sampling_beta=0.5,
            output_type="latent", **boxes,
        )  # fmt: skip
    assert seen == {(0, "image 64 (1x8x8) | grounding 30"), (1, "image 64 (1x8x8) | grounding 30")}
