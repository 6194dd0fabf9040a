"""Watch, within a forward, how much visual tokens attend to chosen words: the mean over the sites passed so far.

The columns of a word, by the normaliser of the whole row, from the operands the host gave. Nothing n x m is held:
scores are summed a run of queries at a time. Later sites of the same forward read `running_mean`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.rows import Role, Rows
from saccade.core.state import Memory
from saccade.mechanisms.key_columns import check_words
from saccade.ops.columns import key_columns, span_lse

SUMS, COUNT = "columns", "count"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunningColumns(Mechanism):
    """Adds a site's columns to the sum of its forward.

    words  by role of the rows that are watched, the positions within the text of a word in each sample (or in all)
    Of rows whose branch is known only the conditional ones count. Mean over heads, sum over a word's tokens.
    """

    words: Mapping[Role, Int[Tensor, "s c"]]
    needs: ClassVar[frozenset[str]] = frozenset({"rows.target", "rows.source"})
    reads_first: ClassVar[bool] = True

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where there is no image, no text, or no such token."""
        for tokens in self.words.values():
            check_words(tokens[None], layout_q, layout_k)

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        assert call.rows is not None
        text = call.layout_k.span(call.layout_k.of("text")[0].name)
        sums = dict(mem.forward.get(SUMS, {}))
        for role, tokens in self.words.items():
            rows = watched_rows(call.rows, role)
            at = text.start + _by_row(tokens, [call.rows.samples[i] for i in rows]).to(call.q.device)
            found = _columns(call.of_rows(rows), at)
            sums[role] = found + sums[role] if role in sums else found
        mem.forward[SUMS], mem.forward[COUNT] = sums, mem.forward.get(COUNT, 0) + 1
        return call


def running_mean(mem: Memory, role: Role) -> Float[Tensor, "s t h w"] | None:
    """The mean over the sites this forward has passed, of the rows of a role; None before the first one."""
    sums = mem.forward.get(SUMS)
    return None if sums is None else sums[role] / mem.forward[COUNT]


def watched_rows(rows: Rows, role: Role) -> list[int]:
    """The rows of a role, of those whose branch is known the conditional ones."""
    found = list(rows.where(role))
    return [i for i in found if i in rows.where("cond")] or found


def _columns(call: AttentionCall, at: Int[Tensor, "s c"]) -> Float[Tensor, "s t h w"]:
    """What each visual token pays to a word."""
    image = call.layout_q.span(call.layout_q.image.name)
    assert call.layout_q.image.grid is not None
    lse = span_lse(call, slice(0, call.k.shape[2]), image)
    return key_columns(call, lse, at, image).sum(-1).mean(1).unflatten(1, call.layout_q.image.grid)


def _by_row(tokens: Int[Tensor, "s c"], samples: list[int]) -> Int[Tensor, "r c"]:
    """Raises ValueError where words are given for another number of samples."""
    if len(tokens) == 1:
        return tokens.expand(len(samples), -1)
    if 1 + max(samples) != len(tokens):
        raise ValueError(f"words are given for {len(tokens)} samples, the rows hold {1 + max(samples)}; give all")
    return tokens[torch.tensor(samples)]
