"""Models that read one sequence and write another: T5 and its kin, BART and its kin, Whisper, which reads sound.

`generate` runs the encoder by itself, beside the model's forward; then it is left as it is. Attach the encoder,
a model of its own, to reach it there.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.bert import LEARNED, projected, stream_itself
from saccade.families.llama import decoder, heads_of
from saccade.families.text_tokens import layer_of
from saccade.seam.cache_span import CacheSpan, within
from saccade.seam.family import Inputs, Layouts, joint_layouts

BIASED = "its positions are a bias on the scores, which every mask leaves in force; add a bias of your own"
WRITTEN = ("decoder_input_ids", "decoder_inputs_embeds", "labels")  # labels are shifted by one and written


def _reads(site: Site) -> bool:
    """Whether a site lies in the encoder, alone or of a whole model."""
    return "decoder." not in site.name


def _source(model: Any, inputs: Inputs, site: Site) -> Layout:
    """What is read: words, as many as the encoder's output has where that is given."""
    given = inputs.get("encoder_outputs")
    if given is not None:
        return Layout.plain(given[0].shape[1])
    ids = inputs.get("input_ids")
    return Layout.plain((inputs["inputs_embeds"] if ids is None else ids).shape[1])


def _frames(model: Any, inputs: Inputs, site: Site) -> Layout:
    """Frames of sound, of which every file has as many: a grid along time alone."""
    n = model.config.max_source_positions
    return Layout((Segment("sound", "image", n, (n, 1, 1)),))


def _span(inputs: Inputs, site: Site) -> CacheSpan | None:
    """Words written now and before; None in the encoder."""
    if _reads(site) or (cache := inputs.get("past_key_values")) is None:
        return None
    n, layer = _written(inputs), layer_of(site)
    keys, dropped = cache.get_mask_sizes(n, layer)
    return CacheSpan(queries=n, before=int(cache.get_seq_length(layer)) - dropped, keys=keys, dropped=dropped)


def _written(inputs: Inputs) -> int:
    return next(inputs[name].shape[1] for name in WRITTEN if inputs.get(name) is not None)


def _layouts(source: Any) -> Any:
    def layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
        if _reads(site):
            return joint_layouts(source(model, inputs, site))
        size = _span(inputs, site)
        words = Layout.plain(_written(inputs) if size is None else size.sequence)
        own = joint_layouts(words) if size is None else within(words, size)
        return (own[0], source(model, inputs, site)) if site.kind == "cross" else own

    return layout


def _plain(module: Any, inputs: Inputs) -> bool:
    """Whether every mask given says which words are padding, and no more."""
    masks = (inputs.get(name) for name in ("attention_mask", "decoder_attention_mask"))
    return all(mask is None or (isinstance(mask, Tensor) and mask.ndim == 2) for mask in masks)


def _run_before(model: Any, inputs: Inputs, site: Site) -> bool:
    return "decoder." not in site.name and inputs.get("encoder_outputs") is not None


def _normed(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    return block.self_attn_layer_norm(tokens)


T5 = decoder(
    name="T5",
    classes=heads_of("T5", "MT5", "UMT5"),
    sites={"*block.*.layer.0.SelfAttention": "self", "*block.*.layer.1.EncDecAttention": "cross"},
    layout=_layouts(_source),
    by_site=True,
    cache_span=_span,
    ordered=_plain,
    skipped=_run_before,
    project=projected("k", "v", "key_value_proj_dim"),
    unsupported={"rotary": BIASED},
)

BART = replace(
    T5,
    name="BART",
    classes=heads_of("Bart", "Marian"),
    sites={"*layers.*.self_attn": "self", "*layers.*.encoder_attn": "cross"},
    project=projected("k_proj", "v_proj", "head_dim"),
    enter=stream_itself,
    unsupported={"rotary": LEARNED},
)

MBART = replace(BART, name="mBART", classes=heads_of("MBart", "Pegasus", "M2M100"), enter=_normed)

WHISPER = replace(
    MBART,
    name="Whisper",
    classes=heads_of("Whisper"),
    layout=_layouts(_frames),
    text="apart",
    grid="video",
    padding=None,
    main_input="input_features",
)
