"""Which tokens are the text, the demonstration and the query: of a diptych by its half, or given one by one."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Literal, get_args

import torch

from saccade.core.layout import Layout, Segment
from saccade.ops.key_group import Places

Half = Literal["top", "left", "first"]
HALVES = get_args(Half)
AXES: dict[str, int] = {"first": 0, "top": 1, "left": 2}  # of a grid (t, h, w)
SIDES = ("frames", "rows", "columns")
Numbers = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Roles:
    """Tokens of a call: queries and keys are counted each in its own sequence; None where there are none."""

    query: Places
    text: Places | None
    demo: Places | None


@dataclass(frozen=True, kw_only=True)
class TokenRoles:
    """How to find them.

    demo   the half of the image, "top", "left" or "first" (of the frames), that shows the subject; the name of a
           segment of its own, as "reference1"; or the numbers of its tokens within the image
    query  numbers of the tokens that are steered; None: the other half, the image's rest, or all of it beside a segment
    words  positions among the text tokens that count as text; None: all, padding included
    text   how many text tokens there must be; None: any
    floor  a half is the first floor(n / 2) tokens of the image, whatever its grid: the released code's
    """

    demo: str | Numbers = "top"
    query: Numbers | None = None
    words: Numbers | None = None
    text: int | None = None
    floor: bool = False

    def on(self, layout_q: Layout, layout_k: Layout, device: torch.device | str | None = None) -> Roles:
        """The tokens of a call. Raises ValueError, but not inside a graph, for tokens that these roles do not fit."""
        if torch.compiler.is_compiling():
            return self._found(layout_q, layout_k, device or "cpu")
        return _found(self, layout_q, layout_k, str(device or "cpu"))

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """Raises ValueError for tokens that these roles do not fit."""
        count, image = layout_k.text_n, layout_q.image
        if self.text is not None and count not in (0, self.text):
            raise ValueError(
                f"text_tokens={self.text} is not the number of text tokens, {count}, of {layout_k.describe()}; leave "
                "it out, or give the pipeline as many by max_sequence_length"
            )
        if count and (beyond := [word for word in self.words or () if word >= count]):
            raise ValueError(f"words={beyond} lie beyond the {count} text tokens of {layout_k.describe()}")
        for name, numbers in (("demo", self.demo), ("query", self.query)):
            beyond = [] if isinstance(numbers, str | None) else [number for number in numbers if number >= image.n]
            if beyond:
                raise ValueError(f"{name}={beyond} lie beyond the {image.n} tokens of the image; count them from 0")
        self._check_demo(layout_q, image)

    def _check_demo(self, layout: Layout, image: Segment) -> None:
        if isinstance(self.demo, str) and self.demo not in HALVES:
            if self.demo == image.name or self.demo not in [s.name for s in layout.segments]:
                raise ValueError(
                    f"demo='{self.demo}' is neither of {HALVES} nor a segment beside the image of {layout.describe()}"
                )
            return
        if isinstance(self.demo, str) and not self.floor:
            self._check_even(self.demo, image)
        demo, query = (_listed(places) for places in self._halves(image, "cpu"))
        if both := sorted({*demo} & {*query}):
            raise ValueError(f"token {both[0]} of the image is in demo and in query; give each token to one of them")
        if not demo or not query:
            raise ValueError(f"demo holds {len(demo)} and query {len(query)} tokens of the image; both need some")

    def _check_even(self, half: str, image: Segment) -> None:
        assert image.grid is not None
        if (side := image.grid[AXES[half]]) % 2:
            raise ValueError(
                f"demo='{half}': an image of {side} {SIDES[AXES[half]]} of tokens has no equal halves; make subject "
                "and target of one size, or give the numbers of tokens as demo=(...) and query=(...)"
            )

    def _found(self, layout_q: Layout, layout_k: Layout, device: torch.device | str) -> Roles:
        start = layout_q.span(layout_q.image.name).start
        joint = len(layout_k.of("image")) > 0
        if isinstance(self.demo, str) and self.demo not in HALVES:
            query = slice(0, layout_q.image.n) if self.query is None else torch.tensor(self.query, device=device)
            demo = layout_q.span(self.demo)
        else:
            demo, query = self._halves(layout_q.image, device)
            demo = _moved(demo, start)
        return Roles(_moved(query, start), self._text(layout_k, device), demo if joint else None)

    def _halves(self, image: Segment, device: torch.device | str) -> tuple[Places, Places]:
        """Demonstration and query within the image."""
        n = image.n
        if isinstance(self.demo, str) and self.floor:
            demo, rest = slice(0, n // 2), slice(n // 2, n)
        elif isinstance(self.demo, str):
            demo, rest = _half(image, AXES[self.demo], device)
        else:
            demo = torch.tensor(self.demo, device=device)
            taken = torch.zeros(n, dtype=torch.int32, device=device).index_fill(0, demo, 1)
            rest = torch.argsort(taken, stable=True)[: n - len(self.demo)]  # what graphs can hold, unlike nonzero
        return demo, rest if self.query is None else torch.tensor(self.query, device=device)

    def _text(self, layout: Layout, device: torch.device | str) -> Places | None:
        if layout.text_n == 0:
            return None
        starts = accumulate((s.n for s in layout.segments), initial=0)
        spans = [(start, s.n) for start, s in zip(starts, layout.segments, strict=False) if s.kind == "text" and s.n]
        if self.words is None and len(spans) == 1:
            return slice(spans[0][0], sum(spans[0]))
        every = torch.cat([torch.arange(start, start + n, device=device) for start, n in spans])
        return every if self.words is None else every[torch.tensor(self.words, device=device)]


@lru_cache(maxsize=64)
def _found(roles: TokenRoles, layout_q: Layout, layout_k: Layout, device: str) -> Roles:
    roles.check(layout_q, layout_k)
    with torch.inference_mode(False):  # kept for later forwards, which may train
        return roles._found(layout_q, layout_k, device)


def _half(image: Segment, axis: int, device: torch.device | str) -> tuple[Places, Places]:
    """The halves of a grid along an axis: spans where tokens of a half follow one another."""
    grid, half = image.grid, image.n // 2
    assert grid is not None
    if prod(grid[:axis]) == 1:
        return slice(0, half), slice(half, image.n)
    one, two = torch.arange(image.n, device=device).reshape(grid).chunk(2, dim=axis)
    return one.flatten(), two.flatten()


def _moved(places: Places, by: int) -> Places:
    return slice(places.start + by, places.stop + by) if isinstance(places, slice) else places + by


def _listed(places: Places) -> list[int]:
    return list(range(places.start, places.stop)) if isinstance(places, slice) else places.tolist()
