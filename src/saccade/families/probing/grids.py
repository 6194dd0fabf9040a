"""Grids that hold as many tokens as were seen: from the sides of the image and patches, from numbers, ids or lists."""

from collections.abc import Iterable, Iterator
from inspect import signature
from itertools import combinations, product
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from saccade.families.probing.perturbing import Path
from saccade.families.probing.terms import ONE, Scope, Term, called, side

Sides = tuple[Term, Term, Term]  # t, h, w
Axes = tuple[int | None, int, int]
SMALL = (1, 2, 4, 8, 16)


def grids(scope: Scope, path: Path, n: int, fold: int) -> Iterator[Sides]:
    """Sides (t, h, w) that hold n tokens, likeliest first; of `fold` attention rows to a batch row, what one holds."""
    value, name = scope.given(path), called(path)
    alone = isinstance(value, Tensor)
    first: Tensor = value if alone else tree_leaves(value)[0]
    axes = _axes(first, alone)
    for sides in (*_patched(scope, first, name if alone else f"{name}[0]", axes), *_numbers(scope)):
        if prod(size(sides)) == n * fold:
            yield from _unfolded(sides, fold)


def line(scope: Scope, path: Path, n: int) -> Sides | None:
    """Sides of tokens one after the other in time, of an argument (b n c) or (b c n), in patches or not."""
    value = scope.given(path)
    if getattr(value, "ndim", 0) != 3:
        return None
    patches = [ONE, *(along for along, _, _ in _patches(scope)), *(Term(str(k), k) for k in SMALL[1:])]
    whole = [side(called(path), value, axis) for axis in (1, 2)]
    lengths = (s.over(by, up) for up in (False, True) for by in patches for s in whole)
    return next(((length, ONE, ONE) for length in lengths if length.value == n), None)


def size(sides: Sides) -> tuple[int, int, int]:
    """The grid of these sides."""
    t, h, w = (s.value for s in sides)
    return t, h, w


def _unfolded(sides: Sides, fold: int) -> Iterator[Sides]:
    t, h, w = sides
    if fold == 1:
        yield sides
    if fold == t.value > 1:
        yield ONE, h, w
    if fold == h.value * w.value > 1:
        yield t, ONE, ONE


def _axes(first: Tensor, alone: bool) -> list[Axes]:
    """Which axes may be t, h and w; a row in a list has no axis of the batch, ids have none of channels."""
    off = 0 if alone else 1
    found: dict[int, list[Axes]] = {
        5: [(2, 3, 4), (1, 3, 4), (1, 2, 3)],
        4: [(None, 2, 3), (None, 1, 2)],
        3: [] if first.is_floating_point() else [(None, 1, 2)],
    }
    return [(None if t is None else t - off, h - off, w - off) for t, h, w in found.get(first.ndim + off, [])]


def _patched(scope: Scope, first: Tensor, name: str, axes: Iterable[Axes]) -> Iterator[Sides]:
    named = list(_patches(scope))
    literal = [(Term(str(t), t), Term(str(k), k), Term(str(k), k)) for k in SMALL for t in (1, 2, 4)]
    for patches, up in ((named, False), (literal, False), (named, True), (literal, True)):
        for patch, (t, h, w) in product(patches, axes):
            along = ONE if t is None else side(name, first, t).over(patch[0], up)
            yield along, side(name, first, h).over(patch[1], up), side(name, first, w).over(patch[2], up)


def _patches(scope: Scope) -> Iterator[Sides]:
    """Patch sizes (t, h, w) that the config or the arguments name."""
    entries = {f"model.config.{k}": v for k, v in scope.config.items() if "patch" in k}
    own = signature(scope.model.forward).parameters
    entries |= {
        f'inputs.get("{k}", {p.default})': scope.inputs.get(k, p.default) for k, p in own.items() if "patch" in k
    }
    numbers = [Term(k, v) for k, v in entries.items() if type(v) is int]
    for name, value in entries.items():
        if isinstance(value, list | tuple) and len(value) in (2, 3):
            parts = [ONE, *(Term(f"{name}[{i}]", v) for i, v in enumerate(value))]
            yield parts[-3], parts[-2], parts[-1]
    for along, across in product([ONE, *numbers], numbers):
        yield along, across, across


def _numbers(scope: Scope) -> Iterator[Sides]:
    """Sides given as arguments of their own, three or two of them in order."""
    terms = [Term(called((k,)), v) for k, v in scope.inputs.items() if type(v) is int and v > 0]
    yield from combinations(terms, 3)
    yield from ((ONE, a, b) for a, b in combinations(terms, 2))


def listed(scope: Scope, n: int, before: int) -> Iterator[str]:
    """Segments of pictures as ids of their tokens, or a list of their grids, say; `before` tokens are of the text."""
    for name, value in scope.inputs.items():
        own = called((name,))
        if isinstance(value, Tensor):
            if (rows := _places(value)) in (n, n + before):
                yield f"picture_segments({own}{f', skip={before}' if rows != n else ''})"
            continue
        for text, grids in _nested(own, value):
            if _held(grids) == n:
                yield f"named_pictures([(prod(grid), tuple(grid)) for grid in {text}])"


def _places(ids: Tensor) -> int | None:
    """How many tokens' places a tensor holds, None where it holds other things."""
    if ids.ndim not in (2, 3) or ids.shape[-1] not in (3, 4) or ids.dtype == torch.bool or ids.is_complex():
        return None
    return ids.shape[-2] if bool((ids == ids.long()).all()) else None


def _nested(text: str, value: Any) -> Iterator[tuple[str, Any]]:
    """An argument, its first entry and that one's, each as a list of grids or as one."""
    for _ in range(3):
        yield from ((text, value), (f"[{text}]", [value]))
        if not isinstance(value, list | tuple) or not value:
            return
        text, value = f"{text}[0]", value[0]


def _held(grids: Any) -> int | None:
    """How many tokens a list of grids holds, None for what is none."""
    if not isinstance(grids, list | tuple) or not grids:
        return None
    if not all(isinstance(g, list | tuple) and len(g) == 3 and all(type(s) is int for s in g) for g in grids):
        return None
    return sum(prod(g) for g in grids)
