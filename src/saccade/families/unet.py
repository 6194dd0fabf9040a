"""The U-Net of Stable Diffusion: grids halve from block to block; GLIGEN's gates see the image and grounding tokens."""

from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

NO_PLACES = "its convolutions know places, its attention does not; use a bias by place (FlashBias) instead"
SEVERAL = "its sites differ in what their blocks receive; use hidden, or a hook of your own"


def grid(model: Any, inputs: Inputs, name: str) -> tuple[int, int]:
    """(h, w) of the image where a site stands: halved, as the strided convolutions do it, from block to block."""
    blocks, (part, *rest) = len(model.config.block_out_channels), name.split(".")
    number = int(rest[0]) if part != "mid_block" else 0
    height, width = inputs["sample"].shape[-2:]
    for _ in range({"down_blocks": number, "mid_block": blocks - 1, "up_blocks": blocks - 1 - number}[part]):
        height, width = ((side + model.config.downsample_padding) // 2 for side in (height, width))
    return height, width


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    image = Layout.image_only((1, *grid(model, inputs, site.name)))
    if site.kind == "joint":
        return joint_layouts(image.append(Segment("grounding", "extra", _grounding(inputs))))
    if site.kind == "cross":
        return image, Layout.plain(inputs["encoder_hidden_states"].shape[1])
    return joint_layouts(image)


def _grounded(inputs: Inputs) -> Any:
    """What GLIGEN is given of boxes and phrases, None where it is given nothing."""
    return (inputs.get("cross_attention_kwargs") or {}).get("gligen")


def _grounding(inputs: Inputs) -> int:
    """Tokens of the boxes: one each, or one of a phrase and one of a picture."""
    given = _grounded(inputs) or {"boxes": inputs["sample"][:, :0]}
    return given["boxes"].shape[1] * (1 if given.get("positive_embeddings") is not None else 2)


def _skipped(model: Any, inputs: Inputs, site: Site) -> bool:
    """A gate that GLIGEN's pipeline shut, or that has nothing to look at."""
    gate = model.get_submodule(site.name.rpartition(".")[0])
    return site.kind == "joint" and not (gate.enabled and _grounded(inputs))


UNET = Family(
    name="U-Net",
    classes=("UNet2DConditionModel",),
    sites={"*.attn1": "self", "*.fuser.attn": "joint", "*.attn2": "cross"},
    layout=_layout,
    by_site=True,
    skipped=_skipped,
    routes=diffusers_routes,
    main_input="sample",
    text="apart",
    padding="encoder_attention_mask",
    project=project_heads,
    unsupported={"rotary": NO_PLACES, "stream": SEVERAL, "enter": SEVERAL},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
