"""Sink channels that are known or found, tokens knocked out, and what keys bring."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlavaConfig, Qwen2VLConfig

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.papers.visual_sink import (
    Knockout,
    contributions,
    find_sink_dims,
    knocked_out,
    known_dims,
    share_inside,
)
from tests.papers.visual_sink.models import CHANNEL, LOUD, entered, llama, prompts

pytestmark = pytest.mark.host


def sizes(name: str, channels: int, layers: int, key_heads: int) -> Any:
    return SimpleNamespace(
        model_type=name, hidden_size=channels, num_hidden_layers=layers, num_key_value_heads=key_heads
    )


def test_channels_of_published_models_are_known() -> None:
    seven: Any = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    assert known_dims(LlavaConfig(text_config={**seven, "num_key_value_heads": 32})) == (1415, 2533)
    assert known_dims(sizes("llama", 5120, 40, 40)) == (2100, 4743)
    qwen: Any = {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
    assert known_dims(Qwen2VLConfig(text_config=qwen)) == (458, 2570)
    assert known_dims(sizes("internlm2", 4096, 32, 8)) == (3584,)
    with pytest.raises(ValueError, match="sink channels of llama .* 8 key heads.* find_sink_dims"):
        known_dims(sizes("llama", 4096, 32, 8))  # Llama 3


def test_channels_are_found_where_first_tokens_are_massive() -> None:
    host, texts = llama(), [[LOUD, 3, 4], [LOUD, 9], [2, 7, 8]]
    assert find_sink_dims(host, texts, threshold=4.5) == (CHANNEL,)
    with pytest.raises(ValueError, match="no channel of the first token lies beyond threshold=20.0"):
        find_sink_dims(host, texts)
    with pytest.raises(ValueError, match=r"prompts=\(\) must hold a few texts"):
        find_sink_dims(host, [])
    with pytest.raises(ValueError, match="tau=0 must be above 0"):
        find_sink_dims(host, texts, threshold=0)


def third_layer(host: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of the first layer that is knocked out: its map, made in single precision, and values."""
    found: dict[str, Any] = {}
    module = host.model.layers[2].self_attn
    hook = module.register_forward_pre_hook(lambda m, args, kwargs: found.update(kwargs), with_kwargs=True)
    host.set_attn_implementation("eager")
    with torch.no_grad():
        maps = host(ids, output_attentions=True, use_cache=False).attentions[2]
    host.set_attn_implementation("sdpa")
    hook.remove()
    v = module.v_proj(found["hidden_states"]).unflatten(-1, (-1, 8)).transpose(1, 2).repeat_interleave(2, dim=1)
    return maps, v.detach()


@pytest.mark.parametrize("renormalise", [False, True])
def test_a_knockout_in_a_model_is_one_of_its_map(renormalise: bool) -> None:
    host, ids = llama().double(), prompts(2).clamp(max=34)
    maps, v = third_layer(host, ids)
    picture = torch.zeros(1, ids.shape[1], dtype=torch.bool)
    picture[0, 4:20] = True
    keys = torch.zeros(2, ids.shape[1], dtype=torch.bool)
    keys[0, [0, 5, 9]] = keys[1, 7:11] = True
    weights = knocked_out(maps, keys, ~picture, renormalise)
    wanted = host.model.layers[2].self_attn.o_proj((weights @ v).transpose(1, 2).flatten(2))
    found: list[Tensor] = []
    hook = host.model.layers[2].self_attn.register_forward_hook(lambda m, args, out: found.append(out[0]))
    system = Knockout(tokens=((0, 5, 9), (7, 8, 9, 10)), renormalise=renormalise, images=(tuple(range(4, 20)),))
    with attach(host, system, layout=Layout.plain(ids.shape[1])), torch.no_grad():
        host(ids, use_cache=False)
    hook.remove()
    torch.testing.assert_close(found[0], wanted, rtol=1e-4, atol=1e-6)
    plain = host.model.layers[2].self_attn.o_proj((maps @ v).transpose(1, 2).flatten(2))
    assert (found[0] - plain).abs().max() > 1e-2


def test_a_knocked_out_map_keeps_other_queries_and_may_be_scaled() -> None:
    alpha = torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    keys = torch.tensor([[True, False, True, False, False]])
    queries = torch.tensor([[False, True, True, True]])
    cut, scaled = (knocked_out(alpha, keys, queries, renormalise) for renormalise in (False, True))
    assert not cut[:, :, 1:][..., keys[0]].any() and torch.equal(cut[:, :, 0], alpha[:, :, 0])
    assert torch.equal(cut[..., ~keys[0]], alpha[..., ~keys[0]]) and torch.equal(scaled[:, :, 0], alpha[:, :, 0])
    torch.testing.assert_close(scaled.sum(-1), torch.ones(1, 2, 4))
    everything = torch.ones_like(keys)
    assert torch.equal(knocked_out(alpha, everything, queries, True), alpha)


def test_contributions_are_lengths_of_what_keys_bring() -> None:
    host, ids = llama().double(), prompts(1).clamp(max=34)
    maps, v = third_layer(host, ids)
    weight = host.model.layers[2].self_attn.o_proj.weight.detach()
    made = contributions(maps.double(), v, weight)
    brought = [maps[0, h, 20, 6] * (weight[:, 8 * h : 8 * h + 8] @ v[0, h, 6]) for h in range(4)]
    torch.testing.assert_close(made[0, 20, 6], torch.stack([x.norm() for x in brought]).mean())
    assert made.shape == (1, 26, 26) and not made[0, 3, 4:].any()


def test_the_share_inside_a_region_counts_marked_tokens() -> None:
    sinks = torch.tensor([[True, True, False, True]])
    assert share_inside(sinks, torch.tensor([[True, False, True, True]])) == 2 / 3
    assert share_inside(~sinks & sinks, sinks).isnan()


def test_what_cannot_be_knocked_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tokens=\(\) names no row"):
        Knockout(tokens=())
    with pytest.raises(ValueError, match="tokens=-1 must be a whole number"):
        Knockout(tokens=((-1,),))
    assert entered(llama(), input_ids=prompts(1)).shape == (1, 26, 32)
