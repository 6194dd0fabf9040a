"""The ways people call a pipeline, each on a tiny random one: what a system must receive at every step.

`Way.roles`: of the batch rows of each forward of a step. `steps`: how many it takes. `extra`: segments beside text and
image.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.tiny_fill import tiny_fill
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3
from tests.tiny_videos import tiny_cogvideox, tiny_wan

STEPS = 4
PICTURE, SMALL = torch.full((1, 3, 32, 32), 0.5), torch.full((1, 3, 16, 16), 0.25)
MASK = torch.zeros(1, 1, 32, 32).index_fill(3, torch.arange(16), 1.0)
SIZES = {"height": 32, "width": 32, "num_inference_steps": STEPS, "output_type": "latent"}
ONE = {**SIZES, "prompt": "a red circle"}
TWO = {**SIZES, "prompt": ["a red circle", "a blue square"]}
COND, UNCOND, PAIR = (("cond",),), (("uncond",),), (("uncond", "cond"),)
IN_TURN = COND + UNCOND
Roles = tuple[tuple[str, ...], ...]
Made = tuple[Any, dict[str, Any]]


@dataclass(frozen=True)
class Way:
    make: Callable[[], Made]
    roles: Roles = COND
    steps: int = STEPS
    extra: tuple[str, ...] = ()


def of(pipeline: str, pipe: Any, **more: Any) -> Any:
    """The same parts, and `more`, in another pipeline of diffusers."""
    import diffusers

    cls = getattr(diffusers, pipeline)
    parts = {**pipe.components, **more}
    made = cls(**{name: part for name, part in parts.items() if name in inspect.signature(cls).parameters})
    made.set_progress_bar_config(disable=True)
    return made


def scheduled(pipe: Any, scheduler: str, **options: Any) -> Any:
    """The pipeline with another scheduler of diffusers."""
    import diffusers

    pipe.scheduler = getattr(diffusers, scheduler)(**options)
    return pipe


def rows(*roles: str, samples: int) -> Roles:
    return (tuple(role for role in roles for _ in range(samples)),)


def flux_control() -> Made:
    from diffusers import FluxControlNetModel

    pipe = tiny_flux()
    own = pipe.transformer.config
    net = FluxControlNetModel.from_transformer(
        pipe.transformer, num_layers=1, num_single_layers=1, attention_head_dim=own.attention_head_dim,
        num_attention_heads=own.num_attention_heads,
    ).eval()  # fmt: skip
    return of("FluxControlNetPipeline", pipe, controlnet=net), {**FLUX, "control_image": PICTURE}


def sd3_control() -> Made:
    from diffusers import SD3ControlNetModel

    pipe = tiny_sd3()
    net = SD3ControlNetModel.from_transformer(pipe.transformer, num_layers=1, num_extra_conditioning_channels=0).eval()
    return of("StableDiffusion3ControlNetPipeline", pipe, controlnet=net), {**SD3, "control_image": PICTURE}


def flux_kontext() -> Made:
    return of("FluxKontextPipeline", tiny_flux()), {**FLUX, "image": SMALL, "max_area": 32 * 32, "_auto_resize": False}


FLUX, SD3 = ({**ONE, "max_sequence_length": 16} for _ in range(2))
WAN = {**ONE, "num_frames": 5, "max_sequence_length": 16}
COG = {**ONE, "num_frames": 5, "max_sequence_length": 16}
PICTURED = {"image": PICTURE, "strength": 0.5}
MASKED = {**PICTURED, "mask_image": MASK}
MANY = {"num_images_per_prompt": 3}
GUIDED, PLAIN = {"guidance_scale": 4.0}, {"guidance_scale": 1.0}
HALF = STEPS // 2
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}

WAYS: dict[str, dict[str, Way]] = {
    "FLUX": {
        "plain": Way(lambda: (tiny_flux(), FLUX)),
        "two prompts": Way(lambda: (tiny_flux(), FLUX | TWO), rows("cond", samples=2)),
        "several pictures a prompt": Way(lambda: (tiny_flux(), FLUX | MANY), rows("cond", samples=3)),
        "negative prompt, true guidance": Way(
            lambda: (tiny_flux(), {**FLUX, "negative_prompt": "a square", "true_cfg_scale": 3.0}), IN_TURN
        ),
        "image to image": Way(lambda: (of("FluxImg2ImgPipeline", tiny_flux()), FLUX | PICTURED), steps=HALF),
        "inpaint": Way(lambda: (of("FluxInpaintPipeline", tiny_flux()), FLUX | MASKED), steps=HALF),
        "fill": Way(lambda: (tiny_fill(), {**FLUX, "image": PICTURE, "mask_image": MASK})),
        "control net": Way(flux_control),
        "reference picture": Way(flux_kontext, extra=("reference1",)),
    },
    "SD3": {
        "guidance": Way(lambda: (tiny_sd3(), SD3 | GUIDED), PAIR),
        "no guidance": Way(lambda: (tiny_sd3(), SD3 | PLAIN)),
        "two prompts": Way(lambda: (tiny_sd3(), SD3 | TWO | GUIDED), rows("uncond", "cond", samples=2)),
        "several pictures a prompt": Way(
            lambda: (tiny_sd3(), SD3 | MANY | GUIDED), rows("uncond", "cond", samples=3)
        ),
        "negative prompt": Way(lambda: (tiny_sd3(), {**SD3, **GUIDED, "negative_prompt": "a square"}), PAIR),
        "image to image": Way(
            lambda: (of("StableDiffusion3Img2ImgPipeline", tiny_sd3()), SD3 | PICTURED | GUIDED), PAIR, HALF
        ),
        "control net": Way(sd3_control, PAIR),
        "two evaluations a step": Way(
            lambda: (scheduled(tiny_sd3(), "FlowMatchHeunDiscreteScheduler"), SD3 | GUIDED), PAIR, 2 * STEPS - 1
        ),
    },
    "Wan": {
        "guidance": Way(lambda: (tiny_wan(), WAN | GUIDED), IN_TURN),
        "no guidance": Way(lambda: (tiny_wan(), WAN | PLAIN)),
        "several videos a prompt": Way(
            lambda: (tiny_wan(), {**WAN, **PLAIN, "num_videos_per_prompt": 2}), rows("cond", samples=2)
        ),
        "multi-step scheduler": Way(
            lambda: (scheduled(tiny_wan(), "UniPCMultistepScheduler", **FLOW), WAN | GUIDED), IN_TURN
        ),
    },
    "CogVideoX": {
        "guidance": Way(lambda: (tiny_cogvideox(), COG | GUIDED), PAIR),
        "no guidance": Way(lambda: (tiny_cogvideox(), COG | PLAIN)),
        "DDIM": Way(lambda: (scheduled(tiny_cogvideox(), "CogVideoXDDIMScheduler"), COG | GUIDED), PAIR),
    },
}  # fmt: skip
