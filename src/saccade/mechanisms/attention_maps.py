"""Record attention maps of one forward: from visual tokens to chosen words, and among visual tokens.

Both are means over heads and over the sites of one grid, made online: held are one number for each visual token and
word, which keep their gradients, and one map n x n, which has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.mechanisms.key_columns import check_words
from saccade.ops.columns import HELD, key_columns

Size = tuple[int, int]  # image tokens down and across
WORDS, IMAGE = "words", "image"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMaps(Mechanism):
    """Keeps running means in `Memory.forward`, which `recorded` reads after the forward.

    tokens   positions within the text
    rows     leading batch rows that are kept; None for all
    words    the grid whose sites count for words; None for the only one there is, () for none at all
    image    the same for the map among visual tokens
    Shares are of all keys of a call, so that those of joint attention add up to one over text and image.
    """

    tokens: tuple[int, ...]
    rows: int | None = None
    words: Size | tuple[()] | None = None
    image: Size | tuple[()] | None = ()
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError for a video, and where keys with text lack a token."""
        if (grid := layout_q.image.grid) is not None and grid[0] > 1:
            raise ValueError(f"grid={grid} is a video's; maps are recorded of pictures alone")
        if layout_k.text_n and self.words != ():
            check_words(torch.tensor(self.tokens)[:, None, None], layout_q, layout_k)

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        assert parts.lse is not None and call.layout_q.image.grid is not None
        size, queries = call.layout_q.image.grid[1:], call.layout_q.span(call.layout_q.image.name)
        lse = parts.lse[:, :, queries]
        if call.layout_k.text_n and _wanted(mem, WORDS, self.words, size):
            start = call.layout_k.span(call.layout_k.of("text")[0].name).start
            at = start + torch.tensor(self.tokens, device=call.q.device)[None]
            found = key_columns(call, lse, at, queries).mean(1)[: self.rows]
            _add(mem, WORDS, size, found.mT.unflatten(2, size))
        if call.layout_k.of("image") and _wanted(mem, IMAGE, self.image, size):
            _add(mem, IMAGE, size, among_image(call, lse)[: self.rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedMaps:
    """What one forward's sites paid, on average.

    words   (b c h w) to each of the recorded tokens, with gradients
    tokens  their positions within the text
    image   (b n n) among visual tokens, rows are queries; None where it was not recorded
    size    (rows, columns) of the n
    """

    words: Float[Tensor, "b c h w"]
    tokens: tuple[int, ...]
    image: Float[Tensor, "b n n"] | None = None
    size: Size | None = None

    def mean(self) -> "RecordedMaps":
        """Over the batch rows, without gradients."""
        image = None if self.image is None else self.image.mean(0, keepdim=True)
        return replace(self, words=self.words.detach().mean(0, keepdim=True), image=image)


def recorded(forward: Mapping[str, Any], recorder: AttentionMaps) -> RecordedMaps:
    """What was recorded in the last forward: `forward` is `run.state.forward[name]` of the system that planned it.

    Raises StateError, naming the grids there were, where none or several are of the size asked for.
    """
    words = _only(forward, WORDS, recorder.words)[1]
    if recorder.image == ():
        return RecordedMaps(words=words, tokens=recorder.tokens)
    size, image = _only(forward, IMAGE, recorder.image)
    return RecordedMaps(words=words, tokens=recorder.tokens, image=image, size=size)


@torch.no_grad()
def among_image(call: AttentionCall, lse: Float[Tensor, "b h n"]) -> Float[Tensor, "b n n"]:
    """The map among visual tokens, mean over heads; a run of queries at a time."""
    span, keys = (layout.span(layout.image.name) for layout in (call.layout_q, call.layout_k))
    every = torch.arange(keys.start, keys.stop, device=call.q.device)[None]
    step = max(HELD // (call.q.shape[0] * call.q.shape[1] * every.shape[1]), 1)
    runs = [slice(at, min(at + step, span.stop)) for at in range(span.start, span.stop, step)]
    own = [slice(run.start - span.start, run.stop - span.start) for run in runs]
    return torch.cat(
        [key_columns(call, lse[:, :, at], every, run).mean(1) for at, run in zip(own, runs, strict=True)], 1
    )


def _wanted(mem: Memory, kind: str, asked: Size | tuple[()] | None, size: Size) -> bool:
    """Whether a site of this size counts; what is not asked for is noted by its size alone."""
    if asked == ():
        return False
    mem.forward.setdefault(kind, {}).setdefault(size, None)
    return asked is None or asked == size


def _add(mem: Memory, kind: str, size: Size, found: Tensor) -> None:
    before = mem.forward[kind][size]
    total, count = (0.0, 0) if before is None else before
    mem.forward[kind][size] = total + found, count + 1


def _only(forward: Mapping[str, Any], kind: str, asked: Size | tuple[()] | None) -> tuple[Size, Tensor]:
    found = forward.get(kind, {})
    if not found:
        raise StateError(f"no site recorded a map of {kind} yet; run the model first, and read before the next forward")
    sizes = ", ".join(f"{h} x {w}" for h, w in sorted(found))
    if asked is None and len(found) > 1:
        raise StateError(f"sites record maps of {kind} on several grids ({sizes}); name one of them")
    size = next(iter(found)) if not asked else asked
    if found.get(size) is None:
        raise StateError(f"no site has a grid of {size[0]} x {size[1]} for maps of {kind}; there are {sizes}")
    total, count = found[size]
    return size, total / count
