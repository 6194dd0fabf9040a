"""Which tokens are queries and which are keys: a text, whole, or its last tokens against a cache."""

from typing import Any

from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.seam.cache_span import CacheSpan, within
from saccade.seam.family import Inputs, Layouts, joint_layouts


def count(inputs: Inputs) -> int:
    """How many tokens this forward got."""
    ids = inputs.get("input_ids")
    return (inputs["inputs_embeds"] if ids is None else ids).shape[1]


def layer_of(site: Site) -> int:
    """The number of a site's layer, which its name says; layers of other kinds count too."""
    return next((int(part) for part in site.name.split(".") if part.isdigit()), site.index)


def cache_span(inputs: Inputs, site: Site) -> CacheSpan | None:
    """Queries, cached keys before them, and all keys there are in a layer; None where no cache was given."""
    n, cache, layer = count(inputs), inputs.get("past_key_values"), layer_of(site)
    if cache is None:
        return None
    keys, dropped = cache.get_mask_sizes(n, layer)
    return CacheSpan(queries=n, before=int(cache.get_seq_length(layer)) - dropped, keys=keys, dropped=dropped)


def text(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """One segment of text."""
    size = cache_span(inputs, site)
    return joint_layouts(Layout.plain(count(inputs))) if size is None else within(Layout.plain(size.sequence), size)


def ordered(module: Any, inputs: Inputs) -> bool:
    """Whether a map the host makes here is its causal order and the padding of keys, and no more."""
    mask = inputs.get("attention_mask")
    packed = inputs.get("position_ids") is not None and mask is None  # several sequences in one row, by position ids
    plain = mask is None or (isinstance(mask, Tensor) and mask.ndim == 2)  # generate makes maps for static caches
    return plain and not packed and not any(_width(module, name) for name in ("sliding_window", "attention_chunk_size"))


def _width(module: Any, name: str) -> int | None:
    """How far a module sees, by the module itself or its config; None where it sees all."""
    return getattr(module if hasattr(module, name) else module.config, name, None)
