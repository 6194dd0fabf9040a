"""Bria Fibo 2: learned gist tokens that have read the text, then the image and pictures to edit; words by themselves in
the cross-attention of some blocks."""

from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.flux import named_pictures
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_heads
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """Where rows differ in how many gist tokens they have, the host moves all of these to the end."""
    pictures, counts = _pictures(model, inputs), _gist(model, inputs)
    if site.kind == "self":
        return joint_layouts(Layout(pictures))
    gist = Segment("gist", "extra", max(counts))
    layout = Layout((gist, *pictures) if min(counts) == gist.n else (*pictures, gist))
    text = inputs["encoder_hidden_states"].shape[2]
    return (layout, Layout.plain(text)) if site.kind == "cross" else joint_layouts(layout)


def _pictures(model: Any, inputs: Inputs) -> tuple[Segment, ...]:
    every = (inputs["hidden_states"], *(inputs.get("context_latents") or ()))
    grids = (tuple(side // model.config.patch_size for side in latents.shape[-2:]) for latents in every)
    return named_pictures([(height * width, (1, height, width)) for height, width in grids])


def _gist(model: Any, inputs: Inputs) -> list[int]:
    """How many gist tokens each row has, as the host counts them."""
    from diffusers.models.transformers.transformer_bria_fibo2 import compute_gist_count

    text, mask, config = inputs["encoder_hidden_states"], inputs.get("encoder_attention_mask"), model.config
    lengths = [text.shape[2]] if mask is None else mask.sum(dim=1).tolist()
    return compute_gist_count(
        lengths, config.min_num_gist_tokens, config.max_num_gist_tokens, config.gist_step, config.gist_min_text_len,
        config.gist_max_text_len,
    )  # fmt: skip


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """Gist tokens are numbered from one on the first axis, pictures from behind the most gist there can be."""
    grids = [segment.grid for segment in layout.segments if segment.grid is not None]
    first = model.config.max_num_gist_tokens + 1
    gist = [_places(range(1, s.n + 1), 1, 1) for s in layout.segments if s.grid is None]
    pictures = [_places(range(first + i, first + i + 1), *grid[1:]) for i, grid in enumerate(grids)]
    ids = torch.cat(gist + pictures if layout.segments[0].grid is None else pictures + gist)
    rope = model.rope_embedder
    return Rotary(ids=ids.to(inputs["hidden_states"].device), theta=rope.theta, axes_dim=tuple(rope.axes_dims))


def _places(numbers: range, height: int, width: int) -> Tensor:
    return torch.cartesian_prod(*(torch.tensor(side) for side in (numbers, range(height), range(width)))).float()


BRIA_FIBO2 = Family(
    name="Bria Fibo 2",
    classes=("BriaFibo2Transformer2DModel",),
    sites={"noise_refiner.*.attention": "self", "layers.*.attention": "joint", "layers.*.cross_attention": "cross"},
    left_alone={"perceiver.*_attention": "learned gist tokens read the text, and each other, before the joint blocks"},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    padding="encoder_attention_mask",
    rotary=_rotary,
    project=project_heads,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=1000,
    whole=False,
)
