"""HunyuanVideo: video first, then text, padded; the host's padding mask becomes the call's first mask."""

from typing import Any

from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.seam.family import Family, Guidance, Inputs, Layouts, grid_ids, joint_layouts, project_heads
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    frames, height, width = inputs["hidden_states"].shape[-3:]
    patch = model.config.patch_size
    grid = (frames // model.config.patch_size_t, height // patch, width // patch)
    text = inputs["encoder_hidden_states"].shape[1]
    return joint_layouts(Layout.joint(text=text, grid=grid, text_first=False))


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    ids = grid_ids(layout, inputs["hidden_states"].device)
    return Rotary(ids=ids, theta=model.rope.theta, axes_dim=tuple(model.rope.rope_dim))


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    """Where a first frame is known its tokens have a conditioning of their own; none of these is one of them."""
    norm = block.norm if hasattr(block, "norm") else block.norm1
    replaces = "TokenReplace" in type(norm).__name__
    known = {"token_replace_emb": condition, "first_frame_num_tokens": 0} if replaces else {}
    return norm(tokens, emb=condition, **known)[0]


HUNYUAN_VIDEO = Family(
    name="HunyuanVideo",
    classes=("HunyuanVideoTransformer3DModel",),
    sites={"transformer_blocks.*.attn": "joint", "single_transformer_blocks.*.attn": "joint"},
    left_alone={"context_embedder.*.attn": "token refiner: text reads text before the joint blocks"},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    grid="video",
    padding="encoder_attention_mask",
    rotary=_rotary,
    project=project_heads,
    enter=_enter,
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
)
