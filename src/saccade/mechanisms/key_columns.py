"""Watch how much visual tokens attend to chosen words: a few columns of the map, averaged over heads and steps.

Nothing n x m is ever held; what is kept at a site is one number per visual token, batch row and watched word.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.rows import Rows
from saccade.core.state import Memory
from saccade.ops.columns import key_columns, span_lse

Over = Literal["all keys", "text keys"]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyColumns(Mechanism):
    """Adds up over the steps: `sum` (w b t h w), the attention of visual queries to each word, and `count`, the steps.

    tokens   positions within the text of each word in each sample (or in all), short words filled up with -1
    over     the keys over which shares add up to one: all of the call, or those of the text alone
    Of rows whose branch is known only the conditional ones are kept, of edited rows only the sources.
    """

    tokens: Int[Tensor, "w s c"]
    over: Over = "all keys"
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where there is no image, no text, or no such token."""
        check_words(self.tokens, layout_q, layout_k)

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        assert parts.lse is not None and call.layout_q.image.grid is not None
        queries = call.layout_q.span(call.layout_q.image.name)
        text = call.layout_k.span(call.layout_k.of("text")[0].name)
        lse = parts.lse[:, :, queries] if self.over == "all keys" else span_lse(call, text, queries)
        places = torch.arange(text.start, text.stop, device=call.q.device)
        words = [word_shares(call, lse, word, places, queries).mean(1) for word in by_row(self.tokens, call)]
        add_up(mem, torch.stack(words)[:, watched(call.rows, call.q.shape[0])].unflatten(2, call.layout_q.image.grid))


def add_up(mem: Memory, found: Float[Tensor, "c b t y x"]) -> None:
    """One step more of what is summed over them."""
    mem.put("sum", found + (mem.get("sum", shape=tuple(found.shape)) if mem.has("sum") else 0))
    mem.put("count", found.new_ones(()) + (mem.get("count") if mem.has("count") else 0))


def by_row(tokens: Int[Tensor, "w s c"], call: AttentionCall) -> Int[Tensor, "w r c"]:
    """The tokens of each word in each batch row, or once where all samples have the same.

    Raises ValueError where words are given for another number of samples.
    """
    tokens = tokens.to(call.q.device)
    if tokens.shape[1] == 1:
        return tokens
    samples = list(range(call.q.shape[0]) if call.rows is None else call.rows.samples)
    if 1 + max(samples) != tokens.shape[1]:
        raise ValueError(f"words are given for {tokens.shape[1]} samples, the rows hold {1 + max(samples)}; give all")
    return tokens[:, samples]


def check_words(tokens: Int[Tensor, "w s c"], layout_q: Layout, layout_k: Layout) -> None:
    """ValueError where there is no image, no text, or no such token."""
    text, last = layout_k.of("text"), int(tokens.max())
    if not text or last >= text[0].n:
        raise ValueError(f"token {last} of a watched word is not in the text; the keys are {layout_k.describe()}")
    _ = layout_q.image


def watched(rows: Rows | None, batch: int) -> list[int]:
    """The rows whose attention is kept: conditional where branches are known, sources where there are some."""
    kept = list(range(batch))
    if rows is not None:
        for of_role in (set(rows.where("cond")), set(rows.where("source"))):
            kept = [i for i in kept if i in of_role] or kept
    return kept


def word_shares(
    call: AttentionCall, lse: Float[Tensor, "b h r"], word: Int[Tensor, "#b c"], text: Int[Tensor, " t"], queries: slice
) -> Float[Tensor, "b h r"]:
    """What queries pay to all tokens of a word; `text` says where the text's tokens stand among the keys."""
    columns = key_columns(call, lse, text[word.clamp(min=0)], queries)
    return (columns * (word >= 0)[:, None, None]).sum(-1)
