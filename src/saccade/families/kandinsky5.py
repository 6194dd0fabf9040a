"""Kandinsky 5: self-attention over the video (channels last), cross-attention to the text.

Its rotary table is applied in bfloat16, and what `raw` gives back is exact to that. The sparse attention it can be
loaded with (NABLA) tiles its tokens and makes a mask of its own in every call; it is refused.
"""

from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, latent_grid
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes

REFINER = "text reads text before the video does"


def channels_last(model: Any, inputs: Inputs) -> Layout:
    """The grid of a video (b t h w c)."""
    return Layout.image_only(latent_grid(model.config, inputs["hidden_states"].shape[1:4]))


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    return apart_layouts(channels_last(model, inputs), inputs["encoder_hidden_states"].shape[1], site)


def _check(inputs: Inputs) -> None:
    if inputs.get("sparse_params") is not None:
        raise ValueError(
            "sparse_params are given: with NABLA attention tokens stand in tiles and the host masks blocks itself; "
            "load the model with attention_type='regular' and attach a sparse system instead"
        )


def table(rope: Any, positions: tuple[Tensor, ...], scales: tuple[float, ...]) -> Rotary:
    """The table of a 3D rotary embedding whose places on each axis are divided by a scale."""
    axes = (place.float() / scale for place, scale in zip(positions, scales, strict=True))
    return Rotary(ids=torch.cartesian_prod(*axes), theta=rope.max_period, axes_dim=tuple(rope.axes_dims))


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    return table(model.visual_rope_embeddings, inputs["visual_rope_pos"], inputs.get("scale_factor") or (1.0,) * 3)


def project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """k and v (b h p d) of tokens x (b p c), the norm acting on each head."""
    k, v = (linear(x).unflatten(-1, (module.num_heads, -1)) for linear in (module.to_key, module.to_value))
    return module.key_norm(k.float()).type_as(k).transpose(1, 2), v.transpose(1, 2)


KANDINSKY5 = Family(
    name="Kandinsky 5",
    classes=("Kandinsky5Transformer3DModel",),
    sites={
        "visual_transformer_blocks.*.self_attention": "self",
        "visual_transformer_blocks.*.cross_attention": "cross",
    },
    left_alone={"text_transformer_blocks.*.self_attention": REFINER},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    shared=("visual_rope_pos", "text_rope_pos", "scale_factor", "sparse_params"),
    rotary=_rotary,
    project=project,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    check=_check,
)
