"""What a layer knows of the tokens it has seen: which are the picture's, and which were sinks as they came.

Sinks are looked for in every forward of more than one token, so in the prompt, whole or in pieces; a token written
later is none. They are kept by layer, with the prompt's last key, by which a cache of another prompt is recognised.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from saccade.core.call import AttentionCall
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.state import Memory

SINKS, ANCHOR, PLACE, CHECKED = "sinks", "anchor", "place", "checked"
Images = tuple[tuple[int, ...], ...]
Marked = Bool[Tensor, "b m"]


@dataclass(frozen=True, eq=False)
class SeenTokens:
    """Keys that are the image's, keys that are sinks, and queries that may be changed."""

    image: Marked
    sinks: Marked
    queries: Bool[Tensor, "b n"]


def cached(layout_q: Layout, layout_k: Layout) -> int:
    """Keys before the first query's own; what a cache has room for, or others appended, comes last."""
    return sum(s.n for s in layout_k.segments if s.kind not in ("padding", "extra")) - layout_q.n


def kept_sinks(call: AttentionCall, found: Bool[Tensor, "b n"], mem: Memory) -> Bool[Tensor, "b s"]:
    """Sinks of all tokens so far: those kept and those of this forward, which are kept in turn.

    Raises StateError where the cache holds tokens whose sinks were not kept.
    """
    before = cached(call.layout_q, call.layout_k)
    if before:
        found = torch.cat((_earlier(call, before, mem), found), dim=1)
    mem.put(SINKS, found)
    if call.q.shape[2] > 1 or not before:
        mem.put(PLACE, found.shape[1] - 1)
        mem.put(ANCHOR, call.k[:, :, found.shape[1] - 1].detach().clone())
    return found


def _earlier(call: AttentionCall, before: int, mem: Memory) -> Bool[Tensor, "b {before}"]:
    kept = mem.get(SINKS) if mem.has(SINKS) else None
    rows = call.q.shape[0]
    if kept is None or tuple(kept.shape) != (rows, before):
        held = "none" if kept is None else f"those of {kept.shape[0]} rows of {kept.shape[1]}"
        raise StateError(
            f"the cache at '{call.site.name}' holds {rows} rows of {before} tokens, whose sinks were not kept (there "
            f"are {held}); begin with the prompt and an empty cache while attached, one request at a time"
        )
    _check_cache(call, mem)
    return kept


def _check_cache(call: AttentionCall, mem: Memory) -> None:
    """Once in a forward, since a device is waited for."""
    if torch.compiler.is_compiling() or mem.forward.get(CHECKED):
        return
    mem.forward[CHECKED] = True
    if not torch.equal(call.k[:, :, mem.get(PLACE)], mem.get(ANCHOR)):
        raise StateError(
            f"the cache at '{call.site.name}' is of another prompt than the one whose sinks were kept; run each "
            "request from its prompt to its end before the next, or attach a model for each"
        )


def image_tokens(call: AttentionCall, images: Images | None) -> Marked:
    """Which of the keys are the picture's, by the host's layout or as given, for each row.

    Raises ValueError where `images` is of another number of rows.
    """
    rows, m = call.q.shape[0], call.k.shape[2]
    if images is None:
        return call.layout_k.is_("image", call.q.device).expand(rows, m)
    if len(images) not in (1, rows):
        raise ValueError(f"images= holds the picture's tokens of {len(images)} rows, the batch has {rows}")
    marks = torch.stack([_marked(places, m, call.q.device) for places in images])
    return marks.expand(rows, m)


def text_queries(image: Marked, layout_q: Layout, layout_k: Layout, after: bool) -> Bool[Tensor, "b n"]:
    """Queries that are no picture's; `after`: and come after all of it."""
    start = cached(layout_q, layout_k)
    free = ~image
    if after:
        free = free & (image.flip(1).cumsum(1).flip(1) == 0)
    return free[:, start : start + layout_q.n]


def widened(marked: Bool[Tensor, "b s"], m: int) -> Bool[Tensor, "b {m}"]:
    """No token of what follows is marked."""
    return F.pad(marked, (0, m - marked.shape[1]), value=False)


def _marked(places: tuple[int, ...], m: int, device: torch.device) -> Bool[Tensor, " {m}"]:
    inside = [place for place in places if place < m]  # the rest is still to come
    marks = torch.zeros(m, dtype=torch.bool)
    marks[inside] = True
    return marks.to(device)
