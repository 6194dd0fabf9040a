"""Hosts that attend by torch's flex attention: AnyFlow FAR."""

from typing import Any

import pytest
import torch
from diffusers import AnyFlowFARPipeline, FlowMapEulerDiscreteScheduler
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_mask

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.masks import forbid
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.systems.dense import Dense
from tests.hosts.host import EVERY_KIND, output
from tests.hosts.models.flexible import CHUNKS, HOSTS
from tests.hosts.stand_ins import Looking, Masked, Scaled, looking
from tests.hosts.test_steps import Clocks
from tests.hosts.test_video_rows import Weak
from tests.hosts.test_wan_pipelines import NO_TEXT, autoencoder

pytestmark = pytest.mark.host
BY_NAME = {host.name: host for host in HOSTS}
Inputs = dict[str, Any]


def layouts(model: nn.Module, inputs: Inputs, kind: Any = "self") -> tuple[str, str]:
    """Queries and keys of the sites of a kind, which all have the same."""
    found: list[tuple[str, str]] = []
    made = looking(lambda call: found.append((call.layout_q.describe(), call.layout_k.describe())))
    with attach(model, made, where=at(kind=kind)):
        output(model, inputs)
    (one,) = set(found)
    return one


def test_far_reads_its_history_and_what_fills_up_is_padding() -> None:
    model, inputs = BY_NAME["anyflow_far"].build()
    asking = "image 48 (2x4x6) | padding 80"
    assert layouts(model, inputs) == (asking, f"history_coarse 6 (1x2x3) | history 48 (2x4x6) | {asking}")
    assert layouts(model, inputs, "cross") == ("image 48 (2x4x6)", "text 6")
    inputs["kv_cache_flag"]["num_cached_chunks"] = 1
    inputs["chunk_partition"] = CHUNKS[:1] + [2]
    assert layouts(model, inputs)[1] == f"history 24 (1x4x6) | {asking}"
    inputs["kv_cache_flag"]["num_cached_chunks"] = 0
    inputs["chunk_partition"] = [2]
    assert layouts(model, inputs) == (asking, asking)


def test_far_with_its_history_closed_makes_the_chunk_without_it() -> None:
    model, inputs = BY_NAME["anyflow_far"].build()
    other = {**inputs, "kv_cache": [{name: x + 1 for name, x in layer.items()} for layer in inputs["kv_cache"]]}
    with torch.no_grad():
        assert not torch.allclose(model(**inputs)[0], model(**other)[0], atol=1e-3)
    shut = forbid("image", "history") & forbid("image", "history_coarse")
    with attach(model, Masked(shut)), torch.no_grad():
        assert torch.equal(model(**inputs)[0], model(**other)[0])


def test_far_masks_are_those_of_the_host_in_training() -> None:
    model, inputs = BY_NAME["anyflow_far_train"].build()
    n, found = 256, []

    def look(call: AttentionCall) -> None:
        assert call.mask is not None
        found.append(call.mask.materialize(call.layout_q, call.layout_k))

    with attach(model, looking(look)):
        output(model, inputs)
    wanted = create_mask(inputs["attention_mask"].mask_mod, 1, 1, n, n, device="cpu")
    assert len(found) == 2 and all(torch.equal(mask, wanted) for mask in found)
    assert not wanted[..., 198:].any() and wanted[..., :198, :198].any(-1).all() and not wanted.all()


def test_far_trains_where_flex_cannot() -> None:
    """torch's flex has no backward on the CPU. What fills up sees nothing, and its gradient is a number."""
    grads = []
    for kernel in ("sdpa", "reference"):
        model, inputs = BY_NAME["anyflow_far_train"].build()
        with attach(model, Dense(kernel=kernel)):
            model(**inputs)[0].square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


def test_far_fills_its_cache_as_the_host() -> None:
    model, inputs = BY_NAME["anyflow_far"].build()
    inputs["kv_cache_flag"] = {"num_cached_chunks": 2, "is_cache_step": True}
    inputs["hidden_states"] = torch.randn(2, 5, 4, 8, 12)
    inputs["timestep"] = inputs["r_timestep"] = torch.zeros(2, 5)
    kept = []
    for stack in ((), (Masked(), Looking(Scaled()))):
        cache = [{name: torch.zeros(2, 2, 2, 96, 16) for name in layer} for layer in inputs["kv_cache"]]
        with attach(model, *stack, where=EVERY_KIND), torch.no_grad():
            model(**{**inputs, "kv_cache": cache})
        kept.append(torch.stack([x for layer in cache for x in layer.values()]))
    assert torch.equal(*kept) and kept[0].any()


def test_far_projects_tokens_as_its_calls_have_them() -> None:
    model, inputs = BY_NAME["anyflow_far"].build()
    module, entered, found = model.blocks[0].attn1, [], []
    hook = module.register_forward_pre_hook(
        lambda module, args, given: entered.append(given["hidden_states"]), with_kwargs=True
    )
    made = looking(lambda call: found.append((call.v, call.host.project(entered[0])[1])), "host.project")
    with attach(model, made, where=at("blocks.0.attn1")):
        output(model, inputs)
    hook.remove()
    ((v, projected),) = found
    torch.testing.assert_close(projected, v[:, :, 54:102])


def test_weak_rows_read_the_history_of_their_own_and_the_cache_comes_back_as_it_was() -> None:
    model, inputs = BY_NAME["anyflow_far"].build()
    with attach(model, Weak(Scaled()), rows=Rows.of("uncond", "cond")), torch.no_grad():
        made, cache = model(**inputs)
    assert cache is inputs["kv_cache"] and len(made) == 2


def test_far_pipeline_makes_chunk_after_chunk() -> None:
    """Each chunk is a generation of its own, and no step is counted where its keys are put away."""
    torch.manual_seed(0)
    model = BY_NAME["anyflow_far"].build()[0]
    scheduler = FlowMapEulerDiscreteScheduler()
    pipe: Any = AnyFlowFARPipeline(**NO_TEXT, vae=autoencoder(), transformer=model, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    found: list[Any] = []
    clocks = Clocks()

    def look(call: AttentionCall) -> None:
        if call.site.index == 0:
            assert call.rows is not None
            found.append((clocks.seen[-1].step, call.rows.roles, call.layout_k.describe()))

    size = {"height": 16, "width": 32, "num_frames": 9, "output_type": "latent", "chunk_partition": CHUNKS}
    texts = {"prompt_embeds": torch.randn(1, 6, 16), "negative_prompt_embeds": torch.randn(1, 6, 16)}

    def drawn() -> Tensor:
        return pipe(
            **size, **texts, num_inference_steps=2, guidance_scale=3.0, generator=torch.Generator().manual_seed(0)
        ).frames

    plain = drawn()
    with attach(pipe):
        assert torch.equal(drawn(), plain)
    with attach(pipe, clocks, looking(look), Masked()):
        assert not torch.allclose(drawn(), plain)
    tokens = [
        "image 32 (1x4x8) | padding 96",
        "history 32 (1x4x8) | image 64 (2x4x8) | padding 64",
        "history_coarse 8 (1x2x4) | history 64 (2x4x8) | image 64 (2x4x8) | padding 64",
    ]
    assert found == [(step, ("uncond", "cond"), keys) for keys in tokens for step in range(2)]
