"""AnyFlow FAR: a video made chunk by chunk, each reading those before it, the older ones in coarser patches.

Three kinds of forward. A chunk is made, and keys of earlier ones come from a cache; the forward that fills the cache is
left to the host; and in training a whole video runs at once under the host's block mask, clean copies of its frames
behind it. The module pads all it hands over to a multiple of 128 tokens. Where a chunk is made it masks none of them:
keys of zeros take their share of the softmax, here as in the host.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.helios import AVERAGED
from saccade.families.pixart import INLINE
from saccade.families.wan_kin import ANYFLOW
from saccade.seam.family import Inputs, Layouts

MULTIPLE = 128
FULL, COARSE = "patch_size", "compressed_patch_size"
PADDED = "the module pads its tokens before the call, so fewer enter than ask; use q, k and v of the call"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    chunks, cached = inputs["chunk_partition"], _cached(inputs)
    asking = _asking(model, inputs, chunks, cached)
    if site.kind == "cross":
        return Layout(asking), ANYFLOW.layout(model, inputs, site)[1]
    before = () if cached is None else _history(model, inputs, chunks, cached)
    spare = -sum(segment.n for segment in asking) % MULTIPLE
    queries = (*asking, Segment("padding", "padding", spare)) if spare else asking
    return Layout(queries), Layout((*before, *queries))


def _cached(inputs: Inputs) -> int | None:
    """How many chunks the cache holds, None without one."""
    return None if inputs.get("kv_cache") is None else inputs["kv_cache_flag"]["num_cached_chunks"]


def _asking(model: Any, inputs: Inputs, chunks: list[int], cached: int | None) -> tuple[Segment, ...]:
    """The chunk that is made; in training the oldest ones in coarse patches, the others, and clean copies of those."""
    if cached is not None:
        return (_frames(model, inputs, "image", inputs["hidden_states"].shape[1]),)
    coarse = max(len(chunks) - model.config.full_chunk_limit, 0)
    names = ("image", "clean") if inputs.get("clean_hidden_states") is not None else ("image",)
    old = _frames(model, inputs, "history_coarse", sum(chunks[:coarse]), COARSE)
    return (*((old,) if coarse else ()), *(_frames(model, inputs, name, sum(chunks[coarse:])) for name in names))


def _history(model: Any, inputs: Inputs, chunks: list[int], cached: int) -> Iterator[Segment]:
    """The chunks before the one that is made, as far as they are cached."""
    coarse = max(1 + cached - model.config.full_chunk_limit, 0)
    parts = {"history_coarse": (chunks[:coarse], COARSE), "history": (chunks[coarse:cached], FULL)}
    for name, (sizes, patch) in parts.items():
        if sizes:
            yield _frames(model, inputs, name, sum(sizes), patch)


def _frames(model: Any, inputs: Inputs, name: str, frames: int, patch: str = FULL) -> Segment:
    _, high, wide = model.config[patch]
    height, width = inputs["hidden_states"].shape[-2:]
    grid: Grid = (frames, height // high, width // wide)
    return Segment(name, "image" if name == "image" else "extra", grid[0] * grid[1] * grid[2], grid)


def _fills_the_cache(inputs: Inputs) -> bool:
    return _cached(inputs) is not None and bool(inputs["kv_cache_flag"].get("is_cache_step"))


ANYFLOW_FAR = replace(
    ANYFLOW,
    name="AnyFlow FAR",
    classes=("AnyFlowFARTransformer3DModel",),
    layout=_layout,
    rotary=None,
    backend="flex",
    batch_axis={"kv_cache": 1},
    unsupported={**INLINE, "hidden": PADDED, "rotary": AVERAGED, "raw": AVERAGED},
    aside=_fills_the_cache,
)
