"""Stable Diffusion 3: image first, then text; 3.5 has a second, image-only attention in some blocks. No rotary."""

from typing import Any

from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.seam.family import Family, Guidance, Inputs, Layouts, image_grid, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

NO_ROTARY = "its positions are added once at the entrance; use a bias by place (FlashBias) where you would turn q and k"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    grid = image_grid(model, inputs)
    if site.kind == "self":
        return joint_layouts(Layout.image_only(grid))
    return joint_layouts(Layout.joint(text=inputs["encoder_hidden_states"].shape[1], grid=grid, text_first=False))


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    """AdaLN gives the input of `attn` first and, in 3.5, the input of `attn2` sixth."""
    return block.norm1(tokens, emb=condition)[5 if site.kind == "self" else 0]


def _check(inputs: Inputs) -> None:
    if (inputs.get("joint_attention_kwargs") or {}).get("attention_mask") is not None:
        raise ValueError(
            "joint_attention_kwargs['attention_mask'] would be ignored: SD3's processor takes a mask and never "
            "applies it; leave it out and attach a system that plans the mask, as KeyPadding"
        )


def _skipped(inputs: Inputs, site: str) -> bool:
    return int(site.split(".")[1]) in (inputs.get("skip_layers") or ())


SD3 = Family(
    name="SD3",
    classes=("SD3Transformer2DModel",),
    sites={"transformer_blocks.*.attn": "joint", "transformer_blocks.*.attn2": "self"},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    unsupported={"rotary": NO_ROTARY},
    project=project_heads,
    enter=_enter,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
    check=_check,
    skipped=_skipped,
    weak=lambda inputs: bool(inputs.get("skip_layers")),
)
