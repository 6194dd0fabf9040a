"""What is a site in models of Sana's make and what is not, and the cache of the refiner."""

from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.errors import SelectorError
from saccade.core.site import Where, at
from tests.hosts.host import output
from tests.hosts.models import sana
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


NO_TEXT = {"text_encoder": None, "tokenizer": None, "vae": None}
DRAWN: dict[str, Any] = {
    "prompt": None, "prompt_embeds": torch.zeros(2, 6, 16), "prompt_attention_mask": torch.ones(2, 6), "height": 128,
    "width": 192, "num_inference_steps": 2, "output_type": "latent", "use_resolution_binning": False,
}  # fmt: skip


def followed(pipe: Any, **given: Any) -> tuple[list[Any], list[int]]:
    """Roles of the rows of every call, and steps."""
    pipe.set_progress_bar_config(disable=True)
    roles, steps = list[Any](), list[int]()
    look = looking(lambda call: roles.append(call.rows and call.rows.roles))
    with attach(pipe, look, where=at(kind="cross")) as run:

        def note(*_: Any) -> dict[str, Any]:
            assert run.clock is not None
            steps.append(run.clock.step)
            return {}

        pipe(**DRAWN, **given, callback_on_step_end=note, generator=torch.Generator().manual_seed(0))
    return list(dict.fromkeys(roles)), steps


def test_a_pipeline_stacks_its_branches() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaPipeline

    pipe = SanaPipeline(**NO_TEXT, transformer=HOSTS["sana"].build()[0], scheduler=FlowMatchEulerDiscreteScheduler())
    negative = {f"negative_{name}": DRAWN[name] for name in ("prompt", "prompt_embeds", "prompt_attention_mask")}
    assert followed(pipe, **negative) == ([("uncond", "uncond", "cond", "cond")], [0, 1])


def test_a_distilled_model_runs_one_branch_whatever_its_scale() -> None:
    from diffusers import SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler

    model = SanaTransformer2DModel(**sana.SIZES, out_channels=4, patch_size=2, guidance_embeds=True).eval()
    pipe = SanaSprintPipeline(**NO_TEXT, transformer=model, scheduler=SCMScheduler())
    assert followed(pipe, guidance_scale=4.5) == ([("cond", "cond")], [0, 1])


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
