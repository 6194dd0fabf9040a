"""Models of FLUX's make: text first, then the image and its reference pictures, whose grids are read from ids."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families import flux2_cache
from saccade.families.flux import FLUX, flat, picture_segments
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_heads
from saccade.seam.rotary import Rotary

ALONE = "its own stack: {} reads {} before the joint blocks"
STACKED = Guidance(roles=("uncond", "cond"), stacked=True)


def _project_fused(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """k and v of FLUX.2, whose single-stream blocks project q, k, v and the feed-forward at once."""
    if hasattr(module, "to_k"):
        return project_heads(module, x)
    _, k, v = module.to_qkv_mlp_proj(x)[..., : 3 * module.inner_dim].chunk(3, dim=-1)
    k, v = (t.unflatten(-1, (module.heads, -1)).transpose(1, 2) for t in (k, v))
    return module.norm_k(k), v


def _enter_pruned(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    """Chroma's condition holds six vectors for the image, then six for the text, or three for both."""
    assert FLUX.enter is not None
    return FLUX.enter(block, site, tokens, condition[:, :6])


def _flux3_layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    if site.kind == "self":
        return joint_layouts(Layout(picture_segments(inputs["img_ids"])))
    text = Segment("text", "text", inputs["encoder_hidden_states"].shape[1])
    ids = (inputs[name] for name in ("img_ids", "image_cond_ids") if inputs.get(name) is not None)
    return joint_layouts(Layout((text, *picture_segments(*ids))))


def _flux3_rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    names = ("txt_ids", "img_ids", "image_cond_ids")[0 if layout.of("text") else 1 :]
    ids = torch.cat([flat(inputs[name]) for name in names if inputs.get(name) is not None]).float()
    return Rotary(ids=ids[: layout.n], theta=model.pos_embed.theta, axes_dim=tuple(model.pos_embed.axes_dim))


def _control_layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """A union of ControlNets has a token before the text that says which it is."""
    layout, _ = FLUX.layout(model, inputs, site)
    mode = (Segment("mode", "extra", 1),) if model.union else ()
    return joint_layouts(Layout((*mode, *layout.segments)))


def _control_rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    assert FLUX.rotary is not None
    table = FLUX.rotary(model, inputs, layout)
    return replace(table, ids=torch.cat((table.ids[: int(model.union)], table.ids)))


FLUX2 = replace(
    FLUX,
    name="FLUX.2",
    classes=("Flux2Transformer2DModel",),
    layout=flux2_cache.layout,
    routes=flux2_cache.routes,
    rotary=flux2_cache.rotary,
    project=_project_fused,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
)
FLUX3 = replace(
    FLUX2,
    name="FLUX.3",
    classes=("Flux3Transformer2DModel",),
    sites={"mode_blocks.image.*.attn": "self", "single_transformer_blocks.*.attn": "joint"},
    left_alone={
        "txt_mode_blocks.*.attn": ALONE.format("text", "text"),
        "mode_blocks.image_cond.*.attn": ALONE.format("a reference", "references"),
    },
    layout=_flux3_layout,
    rotary=_flux3_rotary,
    project=project_heads,
    shared=("img_ids", "txt_ids", "image_cond_ids"),
    routes=FLUX.routes,
)
CHROMA = replace(
    FLUX, name="Chroma", classes=("ChromaTransformer2DModel",), padding="attention_mask", enter=_enter_pruned
)
OVIS_IMAGE = replace(FLUX, name="Ovis-Image", classes=("OvisImageTransformer2DModel",))
LONGCAT_IMAGE = replace(FLUX, name="LongCat-Image", classes=("LongCatImageTransformer2DModel",))
BRIA = replace(FLUX, name="Bria", classes=("BriaTransformer2DModel",), guidance=STACKED, time_scale=1)
BRIA_FIBO = replace(BRIA, name="Bria Fibo", classes=("BriaFiboTransformer2DModel",))
FLUX_CONTROLNET: Family = replace(
    FLUX, name="FLUX ControlNet", classes=("FluxControlNetModel",), layout=_control_layout, rotary=_control_rotary
)
