"""FLUX.2 with references that are read once: the first step takes them in before the image, later ones see their keys.

Its processors then call a function of their own, which splits the sequence; here it is one call with a mask, or more
keys. The references are one segment: after the first step nobody knows their grids.
"""

from functools import lru_cache
from typing import Any, no_type_check

import torch
from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.flux import FLUX, picture_segments
from saccade.seam.entry import HERE
from saccade.seam.family import Inputs, Layouts, joint_layouts
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes
from saccade.seam.shadow import Route


def layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """Queries and keys, with or without the references among the queries."""
    if not (kept := _kept(inputs)):
        return FLUX.layout(model, inputs, site)
    text = Segment("text", "text", inputs["encoder_hidden_states"].shape[1])
    image = picture_segments(inputs["img_ids"], skip=inputs.get("num_ref_tokens", 0))
    keys = Layout((text, Segment("references", "extra", kept), *image))
    return joint_layouts(keys) if inputs["kv_cache_mode"] == "extract" else (Layout((text, *image)), keys)


def rotary(model: Any, inputs: Inputs, tokens: Layout) -> Rotary:
    """The table of FLUX; raises ValueError where keys are cached, whose ids are known no more."""
    if inputs.get("kv_cache_mode") == "cached":
        raise ValueError(
            "kv_cache_mode='cached' keeps keys of references without their ids; leave out what needs host.rotary or "
            "host.raw, or pass the references with every step, as Flux2KleinPipeline does"
        )
    assert FLUX.rotary is not None
    return FLUX.rotary(model, inputs, tokens)


def routes() -> tuple[Route, ...]:
    """Those of diffusers, and the function its processors call with a cache."""
    from diffusers.models.transformers.transformer_flux2 import _flux2_kv_causal_attention as original

    return (*diffusers_routes(), Route(name=original.__name__, original=original, template=_with_references))


def _kept(inputs: Inputs) -> int:
    match inputs.get("kv_cache_mode"):
        case "extract":
            return inputs.get("num_ref_tokens", 0)
        case "cached" if inputs.get("kv_cache") is not None:
            return inputs["kv_cache"].num_ref_tokens
    return 0


@no_type_check
def _with_references(
    query: Tensor, key: Tensor, value: Tensor, num_txt_tokens: int, num_ref_tokens: int, *args: Any,
    _saccade_original: Any = None, **kwargs: Any,
) -> Tensor:  # fmt: skip
    interceptor = HERE.interceptor
    if interceptor is None or not interceptor.active:
        return _saccade_original(query, key, value, num_txt_tokens, num_ref_tokens, *args, **kwargs)
    interceptor.seen = True
    return dispatched(interceptor, query, key, value, num_txt_tokens, num_ref_tokens, *args, **kwargs)


def dispatched(
    interceptor: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    text: int,
    references: int,
    kv_cache: Any = None,
    backend: Any = None,
) -> Tensor:
    """One call, (b n h d): kept keys come after those of the text; without them references see references alone."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    mask = None if kv_cache is not None else _apart(query.shape[1], text, references, query.device)
    if kv_cache is not None:
        key, value = (
            torch.cat((x[:, :text], kept, x[:, text:]), dim=1)
            for x, kept in zip((key, value), kv_cache.get(), strict=True)
        )
    return interceptor.dispatch(dispatch_attention_fn, query, key, value, attn_mask=mask, backend=backend)


@lru_cache(maxsize=4)  # the sites of a forward share it, and what is made of it
def _apart(n: int, text: int, references: int, device: torch.device) -> Tensor:
    """(n n) True where a query sees a key."""
    with torch.inference_mode(False):
        places = torch.arange(n, device=device)
        reference = (places >= text) & (places < text + references)
        return ~reference[:, None] | reference[None, :]
