"""What is a site in models of Sana's make and what is not, and the cache of the refiner."""

from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.errors import SelectorError
from saccade.core.site import Where, at
from tests.hosts.host import output
from tests.hosts.stand_ins import EvenKeys, Masked, Same, looking
from tests.hosts.tiny import MORE

pytestmark = pytest.mark.host
HOSTS = {host.name: host for host in MORE}
EVERY_KIND = Where(kinds=("joint", "self", "cross"))


def notes(name: str) -> dict[str, str]:
    """What a report says of attention that was left alone."""
    model, _ = HOSTS[name].build()
    with attach(model, where=EVERY_KIND) as run:
        return {site.name: site.note for site in run.report().sites if site.note}


@pytest.mark.parametrize("name", ["sana", "sana_controlnet", "sana_video"])
def test_linear_attention_is_no_site_and_the_report_says_why(name: str) -> None:
    found = notes(name)
    assert found.keys() == {f"transformer_blocks.{i}.attn1" for i in (0, 1)}
    assert all(why.startswith("linear attention: no pair of tokens has a score") for why in found.values())


def test_where_nothing_is_chosen_the_cross_attention_is_named() -> None:
    model, _ = HOSTS["sana"].build()
    with pytest.raises(SelectorError, match=r"matches no site; there are transformer_blocks.0.attn2"):
        attach(model, Same())


def test_a_mask_the_host_would_ignore_is_refused() -> None:
    model, inputs = HOSTS["sana"].build()
    with (
        attach(model, Same(), where=at(kind="cross")),
        pytest.raises(ValueError, match="attention_mask would be ignored: Sana's linear attention takes no mask"),
    ):
        output(model, {**inputs, "attention_mask": torch.ones(2, 6)})


def test_blocks_of_a_softmax_are_sites_and_the_linear_ones_are_left_alone() -> None:
    model, _ = HOSTS["sana_wm"].build()
    with attach(model, where=EVERY_KIND) as run:
        kinds = {site.name: (site.kind, site.heads) for site in run.sites}
    assert kinds == {
        "blocks.0.cross_attn": ("cross", 2),
        "blocks.1.attn.attn": ("self", 2),
        "blocks.1.attn.cam_attn": ("self", 2),
        "blocks.1.cross_attn": ("cross", 2),
    }
    assert notes("sana_wm").keys() == {"blocks.0.attn.attn", "blocks.0.attn.cam_attn"}


def test_without_a_camera_its_branch_does_not_run() -> None:
    model, inputs = HOSTS["sana_wm"].build()
    seen: list[str] = []
    with attach(model, looking(lambda call: seen.append(call.site.name))):
        output(model, {**inputs, "camera_conditions": None})
    assert seen == ["blocks.1.attn.attn"]


def test_keys_of_the_refiners_cache_come_before_its_own() -> None:
    """They are no part of the block that is refined, and a mask reaches them."""
    from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMRefinerKVCache

    model, inputs = HOSTS["sana_wm_refiner"].build()
    cache = SanaWMRefinerKVCache(num_layers=2)
    cache.sink_pe = tuple(table[:, :6] for table in inputs["video_rotary_emb"])
    for layer in cache.layer_caches:
        layer.store_sink(torch.randn(2, 6, 24), torch.randn(2, 6, 24))
        layer.store_history(torch.randn(2, 12, 24), torch.randn(2, 12, 24))
    given: dict[str, Any] = {**inputs, "kv_cache": cache, "kv_cache_mode": "inject"}
    plain, layouts = output(model, given), set[tuple[str, str]]()
    with attach(model, looking(lambda call: layouts.add((call.layout_q.describe(), call.layout_k.describe())))):
        torch.testing.assert_close(output(model, given), plain, rtol=1e-4, atol=1e-5)
    assert layouts == {("image 18", "sink 6 | history 12 | image 18")}
    with attach(model, Masked(EvenKeys())):
        assert not torch.allclose(output(model, given), plain)
