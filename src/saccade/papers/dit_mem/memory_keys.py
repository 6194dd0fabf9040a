"""Memory tokens as more keys and values of a self-attention; they ask nothing themselves.

k_M = norm_k(W_k m),  v_M = W_v m,  m = norm(M) (1 + scale) + shift      the block's own weights, no rotation
out = softmax(q [k, k_M]^T / sqrt(d) + [0, log r]) [v, v_M]
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding
from saccade.core.mechanism import Appended, Mechanism, Pairs
from saccade.core.rows import Rows
from saccade.core.state import Memory
from saccade.papers.dit_mem.tokens import MemoryTokens

SEGMENT = "memory"
Negative = Literal["memory", "zeros", "none"]


@dataclass(frozen=True, kw_only=True)
class MemoryKeys(Mechanism):
    """Append the memory behind all other keys; every query sees it.

    negative  what unconditional rows of a batch get, see `DiTMem`
    """

    needs: ClassVar[frozenset[str]] = frozenset({"host.enter", "host.stream", "host.project"})

    memory: MemoryTokens
    negative: Negative = "memory"

    def appends(self, layout: Layout) -> tuple[Appended, ...]:
        seen_by = tuple(dict.fromkeys(segment.kind for segment in layout.segments))
        return (Appended(segment=Segment(SEGMENT, "extra", self.memory.n), seen_by=seen_by),)

    def keys(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        """Raises ValueError for a memory of another width than the model's, and as `rows_of` does."""
        tokens, stream = self.rows_of(call.rows, len(call.q)), call.host.stream
        if tokens.shape[-1] != stream.shape[-1]:
            raise ValueError(
                f"memory of width {tokens.shape[-1]} cannot enter '{call.site.name}', whose model has width "
                f"{stream.shape[-1]}; make the encoder with dim={stream.shape[-1]}"
            )
        k, v = call.host.project(call.host.enter(tokens.to(stream)))
        (appended,) = self.appends(call.layout_k)
        return call.append(appended.segment, *(x.to(call.k).expand(len(call.q), -1, -1, -1) for x in (k, v)))

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        logs, nulls = self.memory.log_counts, _nulls(call.rows)
        bias = None if logs is None else per_key(logs.to(call.q.device), call)
        closed = self.negative == "none" and nulls
        return Pairs(bias=bias, mask=_closed(call, nulls) if closed else None)

    def density(self, mem: Memory) -> float:
        return 1.0

    def rows_of(self, rows: Rows | None, batch: int) -> Float[Tensor, "b m d"]:
        """The memory of each batch row, or of one for all. Each prompt may be drawn several times.

        Raises ValueError for memories that are neither one, nor one for each prompt.
        """
        tokens, samples = self.memory.tokens, tuple(range(batch)) if rows is None else rows.samples
        nulls = _nulls(rows) if self.negative == "zeros" else ()
        count = max(samples) + 1
        if count % len(tokens) or (rows is None and len(tokens) not in (1, batch)):
            raise ValueError(
                f"memory has {len(tokens)} rows for {count} samples; give one row for all, or one for each prompt"
            )
        picked = [sample * len(tokens) // count for sample in samples]
        if not nulls and (len(tokens) == 1 or picked == list(range(len(tokens)))):
            return tokens
        parts = [tokens[i : i + 1] for i in picked]
        return torch.cat([torch.zeros_like(part) if i in nulls else part for i, part in enumerate(parts)])


def per_key(values: Float[Tensor, " m"], call: AttentionCall) -> LowRank:
    """These on the memory's keys and 0 on others, in two columns, since one of half precision would round them."""
    span = call.layout_k.span(SEGMENT)
    ahead, behind = values.new_zeros(span.start), values.new_zeros(call.layout_k.n - span.stop)
    fine = torch.cat((ahead, values, behind))
    rough = fine.to(call.q.dtype)
    columns = torch.stack((rough, (fine - rough).to(call.q.dtype)), dim=-1)
    return LowRank(columns.new_ones(1, 1, call.q.shape[2], 2), columns[None, None])


def _nulls(rows: Rows | None) -> tuple[int, ...]:
    return () if rows is None else rows.where("uncond")


def _closed(call: AttentionCall, rows: tuple[int, ...]) -> KeyPadding:
    """Memory that some rows do not see."""
    span, m = call.layout_k.span(SEGMENT), call.layout_k.n
    place = torch.arange(m, device=call.q.device)
    others = (place < span.start) | (place >= span.stop)
    return KeyPadding(torch.stack([others if i in rows else torch.ones_like(others) for i in range(len(call.q))]))
