"""Sana-WM: a video under a camera, and the second stage that refines it block by block.

Every few blocks attend by softmax, twice over the same tokens: as they are, and along the camera's rays. The others
are linear and no sites. The refiner is LTX-2's make without sound: it receives rotary tables and no grid, and keys of
frames that were refined before come from its cache.
"""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site, SiteKind
from saccade.families.llama import NO_ROTARY
from saccade.families.ltx import LTX
from saccade.families.pixart import NO_BLOCK
from saccade.families.sana import LINEAR
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, latent_grid
from saccade.seam.routes import diffusers_routes

AROUND = "the module around this one projects; use k and v of the call"
SILENT = "sound of the model it was made from; it never runs"


def _softmax(model: Any, name: str, kind: SiteKind) -> SiteKind | None:
    """Attention within the video where a block has a softmax."""
    return kind if kind == "cross" or "Softmax" in type(model.get_submodule(name)).__name__ else None


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    video = Layout.image_only(latent_grid(model.config, inputs["hidden_states"].shape[-3:]))
    return apart_layouts(video, inputs["encoder_hidden_states"].shape[2], site)


def _skipped(model: Any, inputs: Inputs, site: Site) -> bool:
    return site.name.endswith("cam_attn") and inputs.get("camera_conditions") is None


def _refined(model: Any, inputs: Inputs, site: Site) -> Layouts:
    block = Segment("image", "image", inputs["hidden_states"].shape[1])
    if site.kind == "cross":
        return apart_layouts(Layout((block,)), inputs["encoder_hidden_states"].shape[1], site)
    return Layout((block,)), Layout((*_cached(inputs, site), block))


def _cached(inputs: Inputs, site: Site) -> tuple[Segment, ...]:
    """The first frames, to which all look back, and the last ones that were refined."""
    if not (inputs.get("kv_cache_mode") or "").startswith("inject"):
        return ()
    layer = inputs["kv_cache"].get(int(site.name.split(".")[-2]))
    found = {"sink": layer.get_sink(), "history": layer.get_history()}
    return tuple(Segment(name, "extra", kv[0].shape[1]) for name, kv in found.items() if kv is not None)


SANA_WM = Family(
    name="Sana-WM",
    classes=("SanaWMTransformer3DModel",),
    sites={"blocks.*.attn.attn": "self", "blocks.*.attn.cam_attn": "self", "blocks.*.cross_attn": "cross"},
    kind_of=_softmax,
    left_alone={"blocks.*.attn.attn": LINEAR, "blocks.*.attn.cam_attn": LINEAR},
    layout=_layout,
    routes=diffusers_routes,
    bind="either",
    text="apart",
    grid="video",
    padding="encoder_attention_mask",
    unsupported={
        "hidden": AROUND, "project": AROUND, "rotary": NO_ROTARY, "raw": NO_ROTARY, "stream": NO_BLOCK,
        "enter": NO_BLOCK,
    },
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
    skipped=_skipped,
)  # fmt: skip

SANA_WM_REFINER = replace(
    LTX,
    name="Sana-WM refiner",
    classes=("SanaWMLTX2RefinerTransformer3DModel",),
    left_alone={f"transformer_blocks.*.{name}": SILENT for name in ("audio_attn?", "*_to_*_attn")},
    layout=_refined,
    by_site=True,
    grid="none",
    shared=(),
    guidance=None,
)
