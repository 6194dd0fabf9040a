"""Stable Diffusion's U-Net and its control nets: grids halve from block to block, and a site's module says its kind.

GLIGEN's gates (`*.fuser.attn`) see the image and grounding tokens. Attention that adds keys and values of the text, as
in DeepFloyd IF and Kandinsky 2, is joint too: its queries are the image's, its keys the text and the image.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site, SiteKind
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

NO_PLACES = "its convolutions know places, its attention does not; use a bias by place (FlashBias) instead"
SEVERAL = "its sites differ in what their blocks receive; use hidden, or a hook of your own"
OFFERED = {"rotary": NO_PLACES, "stream": SEVERAL, "enter": SEVERAL}


def halvings(model: Any, name: str) -> int:
    """How often the latents' grid was halved where a site stands; never outside the blocks."""
    blocks, (part, *rest) = len(model.config.block_out_channels), name.split(".")
    number = int(rest[0]) if part in ("down_blocks", "up_blocks") else 0
    return {"down_blocks": number, "mid_block": blocks - 1, "up_blocks": blocks - 1 - number}.get(part, 0)


def grid(model: Any, inputs: Inputs, name: str) -> tuple[int, int]:
    """(h, w) of the image where a site stands, by strided convolutions of the config's padding."""
    height, width = inputs["sample"].shape[-2:]
    padding = model.config.get("downsample_padding", 1)
    for _ in range(halvings(model, name)):
        height, width = ((side + padding) // 2 for side in (height, width))
    return height, width


def kind_of(model: Any, name: str, kind: SiteKind) -> SiteKind | None:
    """By what the module attends to: blocks of text alone call an `attn1` with it, others an `attn2` without."""
    module = model.get_submodule(name)
    if name[-1].isdigit() and not hasattr(module, "processor"):  # a transformer where others have attention
        return None
    if kind == "joint" or (module.added_kv_proj_dim is not None and not module.only_cross_attention):
        return "joint"
    return "cross" if module.is_cross_attention else "self"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    image = Layout.image_only((1, *grid(model, inputs, site.name)))
    if site.kind == "self":
        return joint_layouts(image)
    if site.name.endswith("fuser.attn"):
        return joint_layouts(image.append(Segment("grounding", "extra", _grounding(inputs))))
    words = _words(model, inputs)
    return image, Layout((*words, *image.segments)) if site.kind == "joint" else Layout(words)


def _words(model: Any, inputs: Inputs) -> tuple[Segment, ...]:
    """Keys of the prompt: text, where Kandinsky 2 gives tokens of a picture before it or instead."""
    way = model.config.get("encoder_hid_dim_type")
    pictures = model.encoder_hid_proj.num_image_text_embeds if way in ("text_image_proj", "image_proj") else 0
    picture = (Segment("picture", "extra", pictures),) if pictures else ()
    text = () if way == "image_proj" else (Segment("text", "text", inputs["encoder_hidden_states"].shape[1]),)
    return *picture, *text


def _grounded(inputs: Inputs) -> Any:
    """What GLIGEN is given of boxes and phrases, None where it is given nothing."""
    return (inputs.get("cross_attention_kwargs") or {}).get("gligen")


def _grounding(inputs: Inputs) -> int:
    """Tokens of the boxes: one each, or one of a phrase and one of a picture."""
    given = _grounded(inputs) or {"boxes": inputs["sample"][:, :0]}
    return given["boxes"].shape[1] * (1 if given.get("positive_embeddings") is not None else 2)


def _skipped(model: Any, inputs: Inputs, site: Site) -> bool:
    """A gate that GLIGEN's pipeline shut, or that has nothing to look at."""
    if not site.name.endswith("fuser.attn"):
        return False
    return not (model.get_submodule(site.name.rpartition(".")[0]).enabled and _grounded(inputs))


def _project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Raises ValueError where a norm over all tokens comes before k and v."""
    if module.group_norm is not None:
        raise ValueError(
            "a norm over all tokens comes before k and v of these sites, so that none can be made of some; use call.k "
            "and call.v, or choose sites named attn1 or attn2"
        )
    return project_heads(module, x)


UNET = Family(
    name="U-Net",
    classes=("UNet2DConditionModel",),
    sites={"*.attn1": "self", "*.fuser.attn": "joint", "*.attn2": "cross", "*.attentions.[0-9]": "self"},
    kind_of=kind_of,
    layout=_layout,
    by_site=True,
    skipped=_skipped,
    routes=diffusers_routes,
    main_input="sample",
    text="apart",
    padding="encoder_attention_mask",
    project=_project,
    unsupported=OFFERED,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)

CONTROLNET = replace(
    UNET,
    name="ControlNet",
    classes=("ControlNetModel", "ControlNetUnionModel"),
    sites={"*.attn1": "self", "*.attn2": "cross"},
    padding=None,
    skipped=lambda model, inputs, site: False,
    left_alone={"transformer_layes.*.attn": "weighs the kinds of control, a token for each"},
)

CONTROLNET_XS = replace(
    CONTROLNET,
    name="ControlNet-XS",
    classes=("UNetControlNetXSModel",),
    skipped=lambda model, inputs, site: ".ctrl_" in site.name and not inputs.get("apply_control", True),
)
