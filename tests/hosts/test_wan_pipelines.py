"""Tiny random pipelines of the real classes for models of Wan's and LTX's make: steps, branches and rows are found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site
from tests.hosts.models import ltx, wan_kin
from tests.hosts.stand_ins import Look, Masked
from tests.hosts.tiny import MORE

pytestmark = pytest.mark.host
HOSTS = {host.name: host for host in MORE}
STACKED = ("anyflow", "ltx")
NO_TEXT = {"text_encoder": None, "tokenizer": None}
SCHEDULES: dict[str, dict[str, Any]] = {
    "UniPCMultistepScheduler": {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    "HeliosScheduler": {"stages": 1, "stage_range": [0, 1]},
}
SIZES: dict[str, Any] = {
    "height": 16, "width": 32, "num_frames": 5, "num_inference_steps": 2, "guidance_scale": 3.0,
    "output_type": "latent",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Followed:
    """Collects (step, steps, branch, roles of the rows) of every call and changes nothing."""

    seen: list[Any] = field(default_factory=list)
    name: str = "followed"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        at = (clock.step, clock.num_steps, clock.branch)
        return (Look(lambda call: self.seen.append((*at, call.rows and call.rows.roles))),)


def autoencoder() -> nn.Module:
    """Wan's, of factor 2 in space and in time."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True], latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4, scale_factor_spatial=2, scale_factor_temporal=2,
    ).eval()  # fmt: skip


def made(pipeline: str, transformer: nn.Module, scheduler: str, **more: Any) -> Any:
    """A pipeline without text encoder, by the names of its class and of its scheduler's."""
    import diffusers

    vae = None if pipeline.startswith("LTX") else autoencoder()
    parts = {
        **NO_TEXT,
        "vae": vae,
        "scheduler": getattr(diffusers, scheduler)(**SCHEDULES.get(scheduler, {})),
        "transformer": transformer,
    }
    return getattr(diffusers, pipeline)(**{**parts, **more})


def wan() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(**wan_kin.SIZES)


def vace() -> tuple[Any, dict[str, Any]]:
    """Control of two latents and a mask of 2 x 2 pixels for each."""
    from diffusers import WanVACETransformer3DModel

    model = WanVACETransformer3DModel(**wan_kin.SIZES, vace_layers=[0, 1], vace_in_channels=12)
    return made("WanVACEPipeline", model, "FlowMatchEulerDiscreteScheduler"), {}


def ti2v() -> tuple[Any, dict[str, Any]]:
    """Wan 2.2: every token has a timestep, 0 for those of the first frame."""
    none = {"image_encoder": None, "image_processor": None, "expand_timesteps": True}
    pipe = made("WanImageToVideoPipeline", wan(), "FlowMatchEulerDiscreteScheduler", **none)
    return pipe, {"image": torch.rand(1, 3, 16, 32)}


def skyreels() -> nn.Module:
    from diffusers import SkyReelsV2Transformer3DModel

    return SkyReelsV2Transformer3DModel(**wan_kin.SIZES)


def forcing() -> tuple[Any, dict[str, Any]]:
    """Diffusion forcing: later frames are a step behind, so that a step takes several forwards."""
    pipe = made("SkyReelsV2DiffusionForcingPipeline", skyreels(), "UniPCMultistepScheduler")
    return pipe, {"prompt": None, "ar_step": 1, "causal_block_size": 1, "base_num_frames": 5}


def ltx_video() -> tuple[Any, dict[str, Any]]:
    masks = {"prompt_attention_mask": ltx.WORDS[:1], "negative_prompt_attention_mask": ltx.WORDS[1:]}
    pipe = made("LTXPipeline", HOSTS["ltx"].build()[0], "FlowMatchEulerDiscreteScheduler")
    return pipe, {"height": 64, "width": 96, "num_frames": 17, **masks}


PIPELINES: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "vace": vace,
    "ti2v": ti2v,
    "skyreels": lambda: (made("SkyReelsV2Pipeline", skyreels(), "UniPCMultistepScheduler"), {}),
    "forcing": forcing,
    "helios": lambda: (made("HeliosPipeline", HOSTS["helios"].build()[0], "HeliosScheduler"), {}),
    "anyflow": lambda: (made("AnyFlowPipeline", HOSTS["anyflow"].build()[0], "FlowMapEulerDiscreteScheduler"), {}),
    "ltx": ltx_video,
}


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # Helios' scheduler calls numpy so
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_followed_by_steps_and_branches(name: str) -> None:
    torch.manual_seed(0)
    pipe, more = PIPELINES[name]()
    pipe.set_progress_bar_config(disable=True)
    texts = {"prompt_embeds": torch.randn(1, 6, 16), "negative_prompt_embeds": torch.randn(1, 6, 16)}

    def drawn() -> torch.Tensor:
        return pipe(**{**SIZES, **texts, **more}, generator=torch.Generator().manual_seed(0)).frames

    plain, followed = drawn(), Followed()
    with attach(pipe):
        assert torch.equal(drawn(), plain)
    with attach(pipe, followed, Masked()):
        assert not torch.allclose(drawn(), plain)
    branches = (("main", ("uncond", "cond")),) if name in STACKED else (("cond", ("cond",)), ("uncond", ("uncond",)))
    assert list(dict.fromkeys(followed.seen)) == [(step, 2, *branch) for step in range(2) for branch in branches]
