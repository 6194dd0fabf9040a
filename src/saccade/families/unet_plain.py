"""U-Nets of other makes: DDPM's without text, Kandinsky 3, Stable Cascade."""

from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site, SiteKind
from saccade.families.unet import OFFERED, grid, halvings, kind_of
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

WHOLE = "a norm over all tokens comes before its k and v; use call.k and call.v"


def _image(model: Any, inputs: Inputs, site: Site) -> Layout:
    return Layout.image_only((1, *grid(model, inputs, site.name)))


def _alone(model: Any, inputs: Inputs, site: Site) -> Layouts:
    return joint_layouts(_image(model, inputs, site))


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    image = _image(model, inputs, site)
    return apart_layouts(image, inputs["encoder_hidden_states"].shape[1], site)


DDPM = Family(
    name="U-Net without text",
    classes=("UNet2DModel",),
    sites={"*.attentions.[0-9]": "self"},
    kind_of=kind_of,
    layout=_alone,
    by_site=True,
    routes=diffusers_routes,
    main_input="sample",
    text="none",
    unsupported=OFFERED | {"project": WHOLE},
)

KANDINSKY3 = Family(
    name="Kandinsky 3",
    classes=("Kandinsky3UNet",),
    sites={"*.attentions.0.attention": "self", "*.attentions.[1-9].attention": "cross"},
    layout=_layout,
    by_site=True,
    routes=diffusers_routes,
    main_input="sample",
    text="apart",
    padding="encoder_attention_mask",
    left_alone={"add_time_condition.attention": "pools the text into the time embedding"},
    project=project_heads,
    unsupported=OFFERED,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)


def _cascade_kind(model: Any, name: str, kind: SiteKind) -> SiteKind:
    return "joint" if model.get_submodule(name.rpartition(".")[0]).self_attn else "cross"


def _cascade(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """Queries of the image; keys of the image, where it sees itself, of the text, its pooled form and a picture."""
    config, switches = model.config, model.config.switch_level
    height, width = (side // config.patch_size for side in inputs["sample"].shape[-2:])
    for level in range(halvings(model, site.name)):
        if switches is None or switches[level]:
            height, width = height // 2, width // 2
    image = Layout.image_only((1, height, width))
    before = image.segments if site.kind == "joint" else ()
    return image, Layout((*before, *_conditions(model, inputs)))


def _conditions(model: Any, inputs: Inputs) -> tuple[Segment, ...]:
    pooled, text, picture = (inputs.get(name) for name in ("clip_text_pooled", "clip_text", "clip_img"))
    assert pooled is not None
    made = Segment("pooled", "extra", pooled.shape[1] * model.config.clip_seq)
    if text is None or picture is None:
        return (made,)
    pictures = 1 if picture.ndim == 2 else picture.shape[1]
    return (
        Segment("text", "text", text.shape[1]), made, Segment("picture", "extra", pictures * model.config.clip_seq),
    )  # fmt: skip


CASCADE = Family(
    name="Stable Cascade",
    classes=("StableCascadeUNet",),
    sites={"down_blocks.*.attention": "joint", "up_blocks.*.attention": "joint"},
    kind_of=_cascade_kind,
    layout=_cascade,
    by_site=True,
    routes=diffusers_routes,
    main_input="sample",
    time_name="timestep_ratio",
    text="apart",
    project=project_heads,
    unsupported=OFFERED,
    guidance=Guidance(roles=("cond", "uncond"), stacked=True),
)
