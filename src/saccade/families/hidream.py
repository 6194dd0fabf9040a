"""HiDream: image first, then the text of two encoders, one of them anew in every block.

An image that is not square is filled up to the longest sequence the model takes; the host clears the keys of what
fills it up and lets them be seen.
"""

from typing import Any

from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, grid_ids, joint_layouts
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes

OTHER_NAMES = "its attention takes its streams under other names; catch norm_hidden_states by a hook of your own"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    (height, width), n = _size(model, inputs)
    image = Segment("image", "image", height * width, (1, height, width))
    spare = (Segment("image padding", "padding", n - image.n),) if n > image.n else ()
    blocks = inputs["encoder_hidden_states_llama3"]
    words = inputs["encoder_hidden_states_t5"].shape[1] + 2 * blocks[0].shape[-2]  # the last block's too, in all blocks
    return joint_layouts(Layout((image, *spare, Segment("text", "text", words))))


def _size(model: Any, inputs: Inputs) -> tuple[tuple[int, int], int]:
    """Rows and columns of the image, and its tokens with padding; ValueError where rows of patches differ."""
    given = inputs["hidden_states"]
    if inputs.get("hidden_states_masks") is None:
        height, width = (side // model.config.patch_size for side in given.shape[-2:])
        return (height, width), height * width if height == width else model.max_seq
    sizes = {(int(height), int(width)) for height, width in inputs["img_sizes"]}
    if len(sizes) > 1:
        raise ValueError(f"img_sizes={sorted(sizes)} differ in one batch; run each size in its own batch")
    return sizes.pop(), given.shape[1]


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    ids = grid_ids(layout, inputs["hidden_states"].device)
    return Rotary(ids=ids, theta=model.pe_embedder.theta, axes_dim=tuple(model.pe_embedder.axes_dim))


def _project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The norm acts across heads."""
    k, v = module.k_rms_norm(module.to_k(x)), module.to_v(x)
    return tuple(t.unflatten(-1, (module.heads, -1)).transpose(1, 2) for t in (k, v))  # type: ignore[return-value]


HIDREAM = Family(
    name="HiDream",
    classes=("HiDreamImageTransformer2DModel",),
    sites={"double_stream_blocks.*.block.attn1": "joint", "single_stream_blocks.*.block.attn1": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    batch_axis={"encoder_hidden_states_llama3": 1},
    rotary=_rotary,
    project=_project,
    unsupported={"hidden": OTHER_NAMES, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
    time_name="timesteps",
    whole=False,
)
