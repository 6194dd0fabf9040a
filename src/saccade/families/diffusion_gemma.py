"""DiffusionGemma: an encoder of the prompt, causal, and a canvas that sees the prompt's keys and itself, both ways.

`generate` calls parts of the model by themselves, past the attachment, so it is refused while systems are attached.
"""

from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.llama import NO_ROTARY, decoder
from saccade.families.text_tokens import cache_span, layer_of, text
from saccade.seam.cache_span import CacheSpan
from saccade.seam.family import Inputs, Layouts, joint_layouts

SHARED_V = "layers that see all make v of k; take both from the call"
STEPS = "call the model itself for every step: model(decoder_input_ids=canvas, past_key_values=cache)"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    if "encoder." in site.name:
        return joint_layouts(Layout(())) if inputs.get("input_ids") is None else text(model, inputs, site)
    given, window = inputs.get("decoder_input_ids"), model.get_submodule(site.name).sliding_window
    canvas = Segment("canvas", "text", model.config.canvas_length if given is None else given.shape[1])
    before = _prompt(inputs, layer_of(site))
    prompt = Segment("prompt", "text", before if window is None else min(before, window - 1))
    return Layout((canvas,)), Layout((prompt, canvas))


def _prompt(inputs: Inputs, layer: int) -> int:
    """Tokens cached and those of this forward."""
    cache, ids = inputs.get("past_key_values"), inputs.get("input_ids")
    return (0 if cache is None else int(cache.get_seq_length(layer))) + (0 if ids is None else ids.shape[1])


def _span(inputs: Inputs, site: Site) -> CacheSpan | None:
    return cache_span(inputs, site) if "encoder." in site.name and inputs.get("input_ids") is not None else None


def _cached_before(model: Any, inputs: Inputs, site: Site) -> bool:
    return "encoder." in site.name and inputs.get("input_ids") is None


DIFFUSION_GEMMA = decoder(
    name="DiffusionGemma",
    classes=("DiffusionGemmaForBlockDiffusion", "DiffusionGemmaModel"),
    sites={"*language_model.layers.*.self_attn": "self", "*decoder.layers.*.self_attn": "self"},
    left_alone={"*vision_tower.*.self_attn": "the vision tower is a model of its own; it is left alone"},
    layout=_layout,
    by_site=True,
    cache_span=_span,
    skipped=_cached_before,
    bypasses={"generate": STEPS},
    whole=False,
    unsupported={"rotary": NO_ROTARY, "raw": NO_ROTARY, "project": SHARED_V},
)
