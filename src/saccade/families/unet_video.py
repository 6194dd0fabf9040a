"""U-Nets for video: spatial attention over rows (batch x frames), temporal attention over rows (batch x places).

A site's grid is then one frame, (1 h w), or one place through time, (f 1 1).
"""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.unet import OFFERED, grid, kind_of
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

TEMPORAL = ("motion_modules", "temp_attentions", "temporal_transformer_blocks", "transformer_in", "temporal_encoder")
PICTURE = (1, 8, 8)  # tokens I2VGen-XL makes of the first frame


def temporal(site: Site) -> bool:
    """Whether a site's tokens are frames."""
    return any(part in site.name for part in TEMPORAL)


def _fold(model: Any, inputs: Inputs, site: Site) -> int:
    height, width = grid(model, inputs, site.name)
    return height * width if temporal(site) else inputs["sample"].shape[2]


def _image(model: Any, inputs: Inputs, site: Site) -> Layout:
    frames = inputs["sample"].shape[2]
    window = getattr(model.get_submodule(site.name.rpartition(".")[0]), "context_length", frames)  # FreeNoise
    return Layout.image_only((min(frames, window), 1, 1) if temporal(site) else (1, *grid(model, inputs, site.name)))


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    image = _image(model, inputs, site)
    return apart_layouts(image, inputs["encoder_hidden_states"].shape[1], site)


UNET_3D = Family(
    name="U-Net for video",
    classes=("UNet3DConditionModel",),
    sites={"*.attn1": "self", "*.attn2": "cross"},
    kind_of=kind_of,
    layout=_layout,
    by_site=True,
    fold=_fold,
    routes=diffusers_routes,
    main_input="sample",
    text="apart",
    grid="video",
    project=project_heads,
    unsupported=OFFERED,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)

ANIMATEDIFF = replace(
    UNET_3D,
    name="AnimateDiff",
    classes=("UNetMotionModel", "SparseControlNetModel"),
    folded=("encoder_hidden_states",),  # its pipelines repeat the text for each frame
)


def _i2vgen(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """The first frame is among the keys, as tokens of its latents and as those of its embedding."""
    q, k = _layout(model, inputs, site)
    if site.kind != "cross":
        return q, k
    frame = Segment("picture", "extra", PICTURE[1] * PICTURE[2], PICTURE)
    return q, k.append(frame).append(Segment("embedding", "extra", model.config.in_channels))


I2VGEN = replace(UNET_3D, name="I2VGen-XL", classes=("I2VGenXLUNet",), layout=_i2vgen)


def _frames_second(inputs: Inputs) -> Inputs:
    """The arguments with a sample (b c f h w), as other U-Nets have it."""
    return {**inputs, "sample": inputs["sample"].transpose(1, 2)}


def _svd(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """Keys of cross-attention are an embedding of the first frame."""
    image = _image(model, _frames_second(inputs), site)
    if site.kind == "cross":
        return image, Layout((Segment("picture", "extra", inputs["encoder_hidden_states"].shape[1]),))
    return joint_layouts(image)


SVD = replace(
    UNET_3D,
    name="Stable Video Diffusion",
    classes=("UNetSpatioTemporalConditionModel",),
    layout=_svd,
    fold=lambda model, inputs, site: _fold(model, _frames_second(inputs), site),
    text="none",
)
