"""Text with pictures and videos in it: the ids say which tokens are theirs, the host their grids.

All rows of a batch share one layout. What a cache holds is remembered under the cache, since later forwards get only
the ids of new tokens.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.text_tokens import cache_span
from saccade.seam.cache_span import cut, within
from saccade.seam.family import Inputs, Layouts, joint_layouts

Grids = dict[str, Iterable[Grid]]  # of a row's pictures ("image") and videos ("video"), in order
BY_HAND = "give the tokens by hand, attach(..., layout=Layout(...))"
_held: WeakKeyDictionary[Any, Layout] = WeakKeyDictionary()  # cache -> the tokens it holds


def layouts(inputs: Inputs, site: Site, marks: dict[str, int], grids: Grids) -> Layouts:
    """(queries, keys) of a forward; `marks` are the ids that stand for the tokens of a picture and of a video.

    Raises ValueError where only embeddings are given.
    """
    ids, cache, size = inputs.get("input_ids"), inputs.get("past_key_values"), cache_span(inputs, site)
    if ids is None:
        raise ValueError(f"inputs_embeds do not tell which tokens are pictures; give input_ids, or {BY_HAND}")
    if size is None:
        return joint_layouts(joined(Layout(()), labels(ids, marks), grids))
    _held[cache] = whole = joined(_cached(cache, size.dropped + size.before), labels(ids, marks), grids)
    return within(whole, size)


def labels(ids: Int[Tensor, "b n"], marks: dict[str, int]) -> list[str]:
    """What each token of a row is, "text" or a name of `marks`; ValueError where rows differ."""
    found = torch.zeros_like(ids)
    for number, mark in enumerate(marks.values(), start=1):
        found = found.masked_fill(ids == mark, number)
    if not torch.equal(found, found[:1].expand_as(found)):
        raise ValueError(
            f"the rows of this batch hold their pictures at different places; run them apart, or {BY_HAND}"
        )
    names = ("text", *marks)
    return [names[number] for number in found[0].tolist()]


def grids_of_row(grids: Int[Tensor, "p 3"], rows: int, merge: int) -> list[Grid]:
    """The grids (t h w) of one row's pictures, patches merged; ValueError where rows differ."""
    if len(grids) % rows or not torch.equal(grids, grids[: len(grids) // rows].repeat(rows, 1)):
        raise ValueError(f"the rows hold pictures of different sizes {grids.tolist()}; run them apart, or {BY_HAND}")
    return [(t, h // merge, w // merge) for t, h, w in grids[: len(grids) // rows].tolist()]


def grids_of_places(ids: Int[Tensor, "b n"], places: Int[Tensor, "3 b n"], marks: dict[str, int]) -> Grids:
    """The same from the tokens' places (t h w): as many rows and columns as there are different places.

    Raises ValueError where rows hold pictures of different sizes.
    """
    names, found = labels(ids, marks), []
    for row in range(len(ids)):
        start, grids = 0, {name: [] for name in marks}
        for name, run in groupby(names):
            stop = start + len(list(run))
            if name != "text":
                grids[name].append(tuple(axis[start:stop].unique().numel() for axis in places[:, row]))
            start = stop
        found.append(grids)
    if any(grids != found[0] for grids in found):
        raise ValueError(f"the rows hold pictures of different sizes {found}; run them apart, or {BY_HAND}")
    return found[0]


def joined(before: Layout, names: list[str], grids: Grids) -> Layout:
    """`before` and more tokens: text goes on where it ended, a run of picture tokens is cut by their grids."""
    segments, left = list(before.segments), {name: iter(found) for name, found in grids.items()}
    for name, run in groupby(names):
        n = len(list(run))
        if name == "text" and segments and segments[-1].kind == "text":
            segments[-1] = Segment(segments[-1].name, "text", segments[-1].n + n)
            continue
        pieces = [(n, None)] if name == "text" else _pieces(n, left.get(name, iter(())))
        segments += [_segment(_numbered(segments, name, i), name, *piece) for i, piece in enumerate(pieces)]
    return Layout(tuple(segments))


def _segment(own: str, name: str, n: int, grid: Grid | None) -> Segment:
    return Segment(own, "text" if name == "text" else "image", n, grid)


def _numbered(segments: list[Segment], name: str, more: int) -> str:
    """`image`, `image2`, `image3`: the next name of its kind."""
    same = more + sum(s.name.rstrip("0123456789") == name for s in segments)
    return f"{name}{same + 1}" if same else name


def _pieces(n: int, grids: Iterator[Grid]) -> list[tuple[int, Grid | None]]:
    """A run of n tokens as pictures one after the other; what no grid fits has none."""
    pieces: list[tuple[int, Grid | None]] = []
    while n:
        grid = next(grids, None)
        volume = n if grid is None else grid[0] * grid[1] * grid[2]
        pieces.append((volume, grid) if volume <= n else (n, None))
        n -= pieces[-1][0]
    return pieces


def _cached(cache: Any, n: int) -> Layout:
    if n == 0:
        return Layout(())
    held = _held.get(cache)
    if held is None or held.n < n:
        raise ValueError(
            f"the cache holds {n} tokens that were not seen while attached; start with an empty "
            f"past_key_values=DynamicCache(config=model.config) after attach, or {BY_HAND}"
        )
    return cut(held, 0, n)
