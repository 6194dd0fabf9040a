"""Record, step by step, what tokens and chosen words pay each other: a few columns or rows of the map, no more."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Grid, Layout
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.mechanisms.by_step import StepRows
from saccade.mechanisms.key_columns import by_row, watched, word_shares
from saccade.ops.columns import key_columns

WORDS, LAYOUTS = "words", "layouts"
Direction = Literal["to", "from"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedWords(Mechanism):
    """Keeps `words` (steps w b h n), n tokens of the image (or sequence) that `looked_at` names; h = 1 for the mean.

    tokens      positions within the text of each word in each sample (or in all), short words filled up with -1
    direction   "to": what each token pays to all tokens of the word; "from": what those pay to it, on average
    each_head   every head by itself
    Shares are of all keys of a call. Sites where no text is asked (or, for "from", asks) keep nothing.
    """

    tokens: Int[Tensor, "w s c"]
    rows: StepRows
    direction: Direction = "to"
    each_head: bool = False
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where the text lacks a token."""
        layout = layout_k if self.direction == "to" else layout_q
        if 0 < layout.text_n <= (last := int(self.tokens.max())):
            raise ValueError(f"token {last} of a word is not in the text; the tokens are {layout.describe()}")

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        if not (call.layout_k if self.direction == "to" else call.layout_q).text_n:
            return
        shares = _paid_to if self.direction == "to" else _paid_from
        found = torch.stack([shares(call, parts, word) for word in by_row(self.tokens, call)])
        kept = found[:, watched(call.rows, call.q.shape[0])]
        note_layouts(call, mem)
        self.rows.keep(mem, WORDS, kept if self.each_head else kept.mean(2, keepdim=True))


def looked_at(layout: Layout) -> tuple[slice, Grid | None]:
    """The tokens that maps are of, and their grid: the image that is drawn, or all where there is none."""
    images = [segment for segment in layout.of("image") if segment.grid is not None]
    if not images:
        return slice(0, layout.n), None
    drawn = next((image for image in images if image.name == "image"), images[0])
    return layout.span(drawn.name), drawn.grid


def note_layouts(call: AttentionCall, mem: Memory) -> None:
    """Keep what the queries and keys of a call are, for whoever reads what was recorded."""
    mem.put(LAYOUTS, (call.layout_q, call.layout_k))


def _paid_to(call: AttentionCall, parts: Parts, word: Int[Tensor, "#b c"]) -> Float[Tensor, "b h n"]:
    assert parts.lse is not None
    queries, text = looked_at(call.layout_q)[0], _text(call.layout_k, word.device)
    return word_shares(call, parts.lse[:, :, queries], word, text, queries)


def _paid_from(call: AttentionCall, parts: Parts, word: Int[Tensor, "#b c"]) -> Float[Tensor, "b h n"]:
    assert parts.lse is not None
    span, real = looked_at(call.layout_k)[0], (word >= 0)[:, None, :, None]
    at = _text(call.layout_q, word.device)[word.clamp(min=0)]
    lse = parts.lse.take_along_dim(at[:, None], 2)
    keys = torch.arange(span.start, span.stop, device=word.device)[None]
    return (key_columns(call, lse, keys, at) * real).sum(2) / real.sum(2)


def _text(layout: Layout, device: torch.device) -> Int[Tensor, " t"]:
    """Where the tokens of all texts stand in the sequence."""
    spans = [layout.span(segment.name) for segment in layout.of("text")]
    return torch.cat([torch.arange(span.start, span.stop, device=device) for span in spans])
