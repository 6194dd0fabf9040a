"""The prior of unCLIP and Kandinsky 2, which denoises an embedding after the text; a transformer within U-Nets."""

from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.families.sd3 import NO_ROTARY
from saccade.families.unet import OFFERED, kind_of
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes


def _prior(model: Any, inputs: Inputs, site: Site) -> Layouts:
    text, pooled, noisy = (inputs.get(name) for name in ("encoder_hidden_states", "proj_embedding", "hidden_states"))
    counts = {"pooled": _tokens(pooled), "time": 1, "embedding": _tokens(noisy)}
    counts |= {} if model.prd_embedding is None else {"prediction": model.prd_embedding.shape[1]}
    words = () if text is None else (Segment("text", "text", text.shape[1]),)
    return joint_layouts(Layout((*words, *(Segment(name, "extra", n) for name, n in counts.items()))))


def _tokens(given: Any) -> int:
    return 1 if given.ndim == 2 else given.shape[1]


PRIOR = Family(
    name="unCLIP prior",
    classes=("PriorTransformer",),
    sites={"transformer_blocks.*.attn1": "self"},
    layout=_prior,
    routes=diffusers_routes,
    text="only",
    grid="none",
    padding="attention_mask",
    project=project_heads,
    unsupported={"rotary": NO_ROTARY, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)


def _plane(model: Any, inputs: Inputs, site: Site) -> Layouts:
    patch = model.config.patch_size if model.is_input_patches else 1
    sides = (model.height, model.width) if model.is_input_vectorized else inputs["hidden_states"].shape[-2:]
    image = Layout.image_only((1, sides[0] // patch, sides[1] // patch))
    return apart_layouts(image, inputs["encoder_hidden_states"].shape[1], site)


TRANSFORMER_2D = Family(
    name="Transformer2D",
    classes=("Transformer2DModel",),
    sites={"transformer_blocks.*.attn1": "self", "transformer_blocks.*.attn2": "cross"},
    kind_of=kind_of,
    layout=_plane,
    routes=diffusers_routes,
    text="apart",
    padding="encoder_attention_mask",
    left_alone={"*.fuser.attn": "gates take grounding tokens ready made; attach the U-Net around them"},
    project=project_heads,
    unsupported=OFFERED,
)
