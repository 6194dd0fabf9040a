"""Hosts that attend by torch's flex attention: AnyFlow FAR, Wan Animate 2, and Kandinsky 6's super-resolution."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from diffusers import (
    AnyFlowFARPipeline,
    ClassifierFreeGuidance,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Kandinsky6SRPipeline,
)
from diffusers.models.transformers import transformer_kandinsky6_sr
from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache
from diffusers.modular_pipelines.wan_animate_2.denoise import WanAnimate2SegmentDenoiseInner
from torch import Tensor, nn
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import BlockMask, create_mask

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import MissingError
from saccade.core.masks import Table, forbid
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.systems.dense import Dense
from tests.hosts.host import EVERY_KIND, output
from tests.hosts.models.flexible import CHUNKS, HOSTS, kandinsky6_sr, uncompiled, wan_animate2
from tests.hosts.stand_ins import Looking, Masked, Same, Scaled, looking
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


def test_animate2_reads_its_picture_and_the_video_it_follows() -> None:
    model, inputs = BY_NAME["wan_animate2"].build()
    asking = "reference1 6 (1x2x3) | image 12 (2x2x3) | padding 110"
    assert layouts(model, inputs) == (asking, f"{asking} | followed 12 (2x2x3) | followed padding 116")
    assert layouts(model, inputs, "cross") == ("reference1 6 (1x2x3) | image 12 (2x2x3)", "text 6")
    assert layouts(model, shorter(inputs))[1] == (
        "reference1 6 (1x2x3) | image 6 (1x2x3) | padding 116 | followed 6 (1x2x3) | followed padding 122"
    )


def shorter(inputs: Inputs) -> Inputs:
    """A frame less of both videos, in the same room."""
    own = {name: [x[:, :2] for x in inputs[name]] for name in ("hidden_states", "condition_latents")}
    cache = WanAnimate2KVCache(2)
    for layer, kept in zip(cache.layer_caches, inputs["kv_cache"].layer_caches, strict=True):
        layer.store(*(x[:, :6] for x in kept.get()))
    return {**inputs, **own, "kv_cache": cache, "seq_len": 12, "reference_grid_sizes": torch.tensor([[1, 2, 3]] * 2)}


@pytest.mark.parametrize("change", [lambda inputs: inputs, shorter], ids=["whole", "shorter"])
def test_animate2_run_through_us_is_the_host(change: Any) -> None:
    """Padding in the room of longer videos is seen, as the host has it."""
    model, inputs = BY_NAME["wan_animate2"].build()
    inputs = change(inputs)
    wanted = output(model, inputs)
    with attach(model, Same()):
        torch.testing.assert_close(output(model, inputs), wanted, rtol=1e-4, atol=1e-5)


def test_animate2_frames_see_the_frames_they_follow() -> None:
    model, inputs = BY_NAME["wan_animate2"].build()
    found = []

    def look(call: AttentionCall) -> None:
        assert call.mask is not None
        found.append(call.mask.materialize(call.layout_q, call.layout_k)[0, 0, :, call.layout_k.span("followed")])

    with attach(model, looking(look), where=at("blocks.0.self_attn")):
        output(model, inputs)
    frames = found[0][:18].unflatten(0, (3, 6)).unflatten(-1, (2, 6))
    wanted = torch.tensor([[False, False], [True, False], [False, True]])
    assert torch.equal(frames, wanted[:, None, :, None].expand_as(frames))


@pytest.mark.bad_input
def test_animate2_in_the_room_of_larger_videos_is_refused() -> None:
    model, inputs = BY_NAME["wan_animate2"].build()
    uncompiled(model, frames=2, tokens=12)
    with attach(model, Same()), pytest.raises(ValueError, match="makes room for 12 tokens a frame, the videos have 6"):
        output(model, {**inputs, "origin_area": [64, 48]})


@pytest.mark.bad_input
def test_animate2_takes_no_weak_rows() -> None:
    model, inputs = BY_NAME["wan_animate2"].build()
    with attach(model, Weak(Scaled()), rows=Rows.of("cond", samples=2)):
        with pytest.raises(MissingError, match="keys of the other video are kept for the rows of the batch alone"):
            output(model, inputs)


def test_animate2_reads_the_other_video_as_the_host_has_it() -> None:
    model, inputs = BY_NAME["wan_animate2"].build()
    given = {
        **inputs, "kv_cache_mode": "extract", "seq_len": 12, "offset_grid_sizes": torch.tensor([[2, 2, 3]] * 2),
        **{name: [x[:, :2] for x in inputs[name]] for name in ("hidden_states", "condition_latents")},
    }  # fmt: skip
    kept = []
    for stack in ((), (Masked(), Looking(Scaled()))):
        with attach(model, *stack, where=EVERY_KIND):
            output(model, {**given, "kv_cache": (cache := WanAnimate2KVCache(2))})
        kept.append(torch.stack([x for layer in cache.layer_caches for x in layer.get()]))
    assert torch.equal(*kept)


def test_animate2_is_denoised_in_turn_and_skips_a_block_without_the_prompt() -> None:
    torch.manual_seed(0)
    model, inputs = wan_animate2(layers=10)
    pipe = SimpleNamespace(
        transformer=model.eval(), scheduler=FlowMatchEulerDiscreteScheduler(), guider=ClassifierFreeGuidance(3.0)
    )
    pipe.scheduler.set_timesteps(2)
    cache = WanAnimate2KVCache(10)
    for layer in cache.layer_caches:
        layer.store(*torch.randn(2, 1, 12, 2, 16))
    found: list[Any] = []
    clocks = Clocks()

    def look(call: AttentionCall) -> None:
        assert call.rows is not None
        found.append((clocks.seen[-1].step, call.rows.roles, call.site.name.split(".")[1]))

    with attach(pipe, clocks, looking(look), Masked()):
        WanAnimate2SegmentDenoiseInner()(pipe, segment(inputs, cache, pipe.scheduler.timesteps), k=0)
    blocks = {"cond": range(10), "uncond": range(9)}
    assert found == [(step, (role,), str(i)) for step in range(2) for role, own in blocks.items() for i in own]


def segment(inputs: Inputs, cache: Any, timesteps: Tensor) -> Any:
    """The state of a segment that is about to be denoised."""
    return SimpleNamespace(
        latents=inputs["hidden_states"][0], reference_latents=inputs["condition_latents"][0], kv_cache=cache,
        timesteps=timesteps, num_inference_steps=2, num_segments=1, max_seq_len=18,
        grid_sizes_ref=inputs["reference_grid_sizes"][:1], segment_frame_length=5, height=32, width=48, generator=None,
        prompt_embeds=[torch.randn(6, 16)], negative_prompt_embeds=[torch.randn(4, 16)],
        denoiser_input_fields={"encoder_hidden_states_image": torch.randn(1, 3, 1280)},
    )  # fmt: skip


def nabla(call: AttentionCall, threshold: float, width: int) -> Tensor:
    """Which pairs Kandinsky 6's super-resolution lets see, written out for tokens in raster order."""
    t, h, w = call.layout_q.image.grid or (0, 0, 0)
    y, x = torch.arange(h) // 8, torch.arange(w) // 8
    tile = (torch.arange(t)[:, None, None] * (h // 8) + y[:, None]) * (w // 8) + x
    tile = tile.flatten()
    tiles = [tile == i for i in range(int(tile.max()) + 1)]
    q, k = (torch.stack([x[:, :, own].double().mean(2) for own in tiles], dim=2) for x in (call.q, call.k))
    weights = (q @ k.mT * width**-0.5).softmax(-1)
    lighter = (weights[..., None, :] * (weights[..., None, :] <= weights[..., :, None])).sum(-1)  # with its own
    seen = (lighter >= 1 - threshold) | torch.eye(weights.shape[-1], dtype=torch.bool)
    return seen[:, :, tile][:, :, :, tile]


@pytest.mark.parametrize("stack", [(), (Masked(),), (Masked(), Looking(Scaled()))], ids=len)
def test_kandinsky6_sr_keeps_the_tiles_it_chose(stack: tuple[Any, ...]) -> None:
    """Under a window too, and by q and k as the module has them, whatever a system does to them."""
    model, inputs = BY_NAME["kandinsky6_sr"].build()
    shares = []

    def look(call: AttentionCall) -> None:
        assert call.mask is not None
        own = nabla(call, model.config.nabla_threshold, call.q.shape[-1])
        found = call.mask.materialize(call.layout_q, call.layout_k)
        if stack:
            assert not (found & ~own).any()
        else:
            assert torch.equal(found, own)
        shares.append(own.float().mean())

    with attach(model, *stack, looking(look)):
        output(model, inputs)
    assert len(shares) == 2 and all(0.2 < share < 0.9 for share in shares)


def test_kandinsky6_sr_stands_in_raster_order() -> None:
    """Where the right half, whose border runs through tiles, is closed to the left one, nothing of it gets there."""
    torch.manual_seed(0)
    model, inputs = kandinsky6_sr(threshold=1.0)  # every tile is chosen, whatever stands in it
    side = (torch.arange(384) % 24 >= 12).long()
    apart = Table(side, side, torch.eye(2, dtype=torch.bool))
    other = inputs["hidden_states"].clone()
    other[:, :, :, 12:] += 1
    with attach(model.eval(), Masked(apart)):
        one, two = (output(model, {**inputs, "hidden_states": x}) for x in (inputs["hidden_states"], other))
    torch.testing.assert_close(one[:, :, :, :12], two[:, :, :, :12])
    assert (one - two).abs().max() > 1e-2


@pytest.mark.inductor
@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch, of torch's own code
def test_kandinsky6_sr_with_flex_compiled_is_what_it_is_through_us() -> None:
    """Compiled, torch heeds the mask. On the CPU it cannot compile the module's, which is one tensor twice."""
    torch._dynamo.reset()
    model, inputs = BY_NAME["kandinsky6_sr"].build()
    with attach(model, Same()):
        ours = output(model, inputs)
    dense, made = output(model, inputs), transformer_kandinsky6_sr.nabla_block_mask

    def apart(*args: Any, **kwargs: Any) -> BlockMask:
        mask = made(*args, **kwargs)
        assert mask.full_kv_num_blocks is not None
        lists = mask.kv_num_blocks, mask.kv_indices, mask.full_kv_num_blocks, mask.kv_indices.clone()
        return BlockMask.from_kv_blocks(*lists, BLOCK_SIZE=mask.BLOCK_SIZE)

    fast = patch.object(flex_attention, "flex_attention", torch.compile(flex_attention.flex_attention))
    with fast, patch.object(transformer_kandinsky6_sr, "nabla_block_mask", apart):
        torch.testing.assert_close(output(model, inputs), ours, rtol=1e-4, atol=1e-5)
    assert (dense - ours).abs().max() > 1e-2
    torch._dynamo.reset()


class Vae:
    """What the pipeline asks of an autoencoder: half as high and wide, a quarter as long, two channels."""

    config = SimpleNamespace(scaling_factor=1.0)
    spatial_compression_ratio, temporal_compression_ratio, dtype = 2, 4, torch.float32

    def encode(self, video: Tensor, return_dict: bool) -> Any:
        return (SimpleNamespace(mode=lambda: video[:, :2, ::4, ::2, ::2]),)

    def decode(self, latents: Tensor, return_dict: bool) -> Any:
        long = latents.repeat_interleave(4, 2)[:, :, 3:]
        return (long.repeat_interleave(2, 3).repeat_interleave(2, 4)[:, [0, 1, 0]],)


def test_kandinsky6_sr_pipeline_begins_anew_with_every_part_of_the_picture() -> None:
    model = BY_NAME["kandinsky6_sr"].build()[0]
    pipe: Any = Kandinsky6SRPipeline(model, Vae(), FlowMatchEulerDiscreteScheduler())
    pipe.set_progress_bar_config(disable=True)
    clocks, found = Clocks(), []

    def look(call: AttentionCall) -> None:
        if call.site.index == 0:
            found.append((clocks.seen[-1].step, call.layout_q.describe()))

    video = torch.rand(1, 5, 3, 8, 32)
    with attach(pipe, clocks, looking(look), Masked()):
        pipe(video, resolution_scale=2, num_inference_steps=2, output_type="pt")
    assert found == [(step, "image 384 (2x8x24)") for _ in range(2) for step in range(2)]
