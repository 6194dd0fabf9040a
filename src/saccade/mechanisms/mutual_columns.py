"""Watch how visual tokens and words attend to each other, by the operands the host gave, before a system changes them.

(a[image, word] + a[word, image]) / 2 of one softmax over all keys: the word's columns and rows of the map alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.rows import Role
from saccade.core.state import Memory
from saccade.mechanisms.key_columns import add_up, by_row, check_words, watched
from saccade.ops.columns import key_columns, span_lse


@dataclass(frozen=True, kw_only=True, eq=False)
class MutualColumns(Mechanism):
    """Adds up over the steps: `sum` (w b t h w) of each word and `count`, as `KeyColumns` does.

    tokens   positions within the text of each word in each sample (or in all), short words filled up with -1
    role     rows that are kept; None for those `KeyColumns` keeps
    Means over heads and over a word's tokens. The host's own mask counts, masks and biases of systems do not.
    """

    tokens: Int[Tensor, "w s c"]
    role: Role | None = None
    reads_first: ClassVar[bool] = True

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset() if self.role is None else frozenset({f"rows.{self.role}"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where words and image are not tokens of one sequence, or there is no such token."""
        check_words(self.tokens, layout_q, layout_k)
        if layout_q.of("text") != layout_k.of("text"):
            raise ValueError(
                f"queries {layout_q.describe()} hold no text, so words attend to nothing here; watch joint sites, "
                "or leave mutual=True out"
            )

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        assert call.layout_q.image.grid is not None
        image = call.layout_q.span(call.layout_q.image.name)
        start = call.layout_q.span(call.layout_q.of("text")[0].name).start
        lse = span_lse(call, slice(0, call.k.shape[2]), image)
        words = [_mutual(call, lse, word, start, image) for word in by_row(self.tokens, call)]
        rows = watched(call.rows, call.q.shape[0])
        if self.role is not None and call.rows is not None:
            rows = list(call.rows.where(self.role))
        add_up(mem, torch.stack(words)[:, rows].unflatten(2, call.layout_q.image.grid))
        return call


def _mutual(
    call: AttentionCall, lse: Float[Tensor, "b h n"], word: Int[Tensor, "#b c"], start: int, image: slice
) -> Float[Tensor, "b n"]:
    """Half of what the image pays to the word, half of what the word pays to the image, mean over heads and tokens."""
    at, real = start + word.clamp(min=0), (word >= 0).to(lse.dtype)[:, None, None]
    to_word = key_columns(call, lse, at, image)
    every = torch.arange(call.k.shape[2], device=call.q.device)[None]
    rows = span_lse(call, slice(0, call.k.shape[2]), at)
    from_word = key_columns(call, rows, every[:, image], at).mT
    return ((to_word + from_word) / 2 * real).sum(-1).mean(1) / real.sum(-1)[:, 0]
