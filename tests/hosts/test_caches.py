"""Caches of diffusers leave attention out in some steps: that is said by name, with what switches them off."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    apply_first_block_cache,
)
from diffusers.hooks import HookRegistry
from diffusers.hooks.first_block_cache import _FBC_BLOCK_HOOK, _FBC_LEADER_BLOCK_HOOK

from saccade.attach import attach
from saccade.core.errors import SilentSiteError
from tests.hosts.stand_ins import Masked
from tests.hosts.tiny import BY_NAME, output

pytestmark = [pytest.mark.host, pytest.mark.bad_input]
CACHES: dict[str, tuple[str, Callable[[], Any]]] = {
    "FirstBlockCache": ("flux", lambda: FirstBlockCacheConfig(threshold=100.0)),
    "TaylorSeerCache": ("flux", lambda: TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1)),
    "MagCache": ("flux", lambda: MagCacheConfig(num_inference_steps=4, retention_ratio=0.1, mag_ratios=torch.ones(4))),
    "PyramidAttentionBroadcast": (
        "cogvideox",
        lambda: PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, spatial_attention_timestep_skip_range=(100, 800),
            current_timestep_callback=lambda: 500,
        ),
    ),
    "FasterCache": (
        "cogvideox",
        lambda: FasterCacheConfig(
            spatial_attention_block_skip_range=2, spatial_attention_timestep_skip_range=(-1, 900),
            attention_weight_callback=lambda _: 0.5, current_timestep_callback=lambda: 500,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_is_named_at_attach_and_its_mend_helps(name: str) -> None:
    host, config = CACHES[name]
    model, inputs = BY_NAME[host].build()
    plain = output(model, inputs)
    model.enable_cache(config())
    with pytest.raises(SilentSiteError, match=rf"the cache {name} leaves attention out in.*call disable_cache\(\) on"):
        attach(model, Masked())
    with attach(model):
        pass
    model.disable_cache()
    with attach(model, Masked()):
        assert not torch.allclose(output(model, inputs), plain)
    assert torch.equal(output(model, inputs), plain)


def test_a_cache_that_is_put_on_later_is_named_where_it_skips() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Masked()):
        model.enable_cache(FirstBlockCacheConfig(threshold=100.0))
        with pytest.raises(
            SilentSiteError, match="had a plan .masked.*: the cache FirstBlockCache leaves attention out"
        ):
            with model.cache_context("cond"):
                for _ in range(3):
                    output(model, inputs)
        model.disable_cache()
        output(model, inputs)


def test_a_cache_put_on_by_hand_is_taken_off_by_its_hooks() -> None:
    model, _ = BY_NAME["flux"].build()
    apply_first_block_cache(model, FirstBlockCacheConfig())
    mend = rf"remove_hook\(name\), name in '{_FBC_LEADER_BLOCK_HOOK}', '{_FBC_BLOCK_HOOK}'"
    with pytest.raises(SilentSiteError, match=f"FBCHeadBlockHook, FBCBlockHook leaves attention out.*{mend}"):
        attach(model, Masked())
    for name in (_FBC_LEADER_BLOCK_HOOK, _FBC_BLOCK_HOOK):
        HookRegistry.check_if_exists_or_initialize(model).remove_hook(name)
    with attach(model, Masked()):
        pass
