"""The order of work for a block pattern: batches of query blocks that read equally many key blocks.

Blocks are numbered over batch rows and heads; full ones come before mixed ones, so only a batch's tail is masked.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.ops.pattern import Pattern


@dataclass(frozen=True, eq=False, kw_only=True)
class GatherSchedule:
    """rows: query blocks in working order; cols, which: for each in turn its key blocks and their tiles (0: open).

    batches (on the CPU): for each batch the number of rows, of key blocks a row, and of leading ones that are full.
    """

    rows: Int[Tensor, " R"]
    cols: Int[Tensor, " P"]
    which: Int[Tensor, " P"]
    batches: Int[Tensor, "B 3"]

    @cached_property
    def sizes(self) -> str:
        """`batches` as text: no tensor of the CPU enters a graph, and one guard covers all numbers."""
        return " ".join(map(str, self.batches.flatten().tolist()))

    @cached_property
    def starts(self) -> Int[Tensor, " R1"]:
        """Where each row's part of `cols` begins, and the end of the last."""
        counts = self.batches[:, 1].repeat_interleave(self.batches[:, 0])
        return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def schedule(pattern: Pattern, b: int, h: int, hk: int, keys: int) -> GatherSchedule:
    """Batches of up to `keys` gathered keys (always at least one row); rows that read nothing are left out."""
    blocks_q, blocks_k = pattern.shape[2:]
    own = torch.arange(pattern.shape[0] * pattern.shape[1] * blocks_q, device=pattern.rows.device)
    own = own.view(pattern.shape[:3]).expand(b, h, blocks_q).flatten()  # the pattern's row of each query block
    counts, fulls = (x.bincount(minlength=int(own[-1]) + 1) for x in (pattern.rows, pattern.rows[pattern.which == 0]))
    count, full = counts[own], fulls[own]
    rows = torch.argsort(count * (blocks_k + 1) + full, stable=True, descending=True)
    rows = rows[: int((count > 0).sum())]
    count, full = count[rows], full[rows]
    starts = (counts.cumsum(0) - counts)[own[rows]] - (count.cumsum(0) - count)
    places = torch.arange(int(count.sum()), device=rows.device) + starts.repeat_interleave(count)
    first = (_key_head(rows, h, hk, blocks_q) * blocks_k).repeat_interleave(count)
    return GatherSchedule(
        rows=rows,
        cols=first + pattern.cols[places],
        which=pattern.which[places].to(torch.int64),
        batches=_batches(count.tolist(), full.tolist(), keys // pattern.size[1]),
    )


def _key_head(rows: Tensor, h: int, hk: int, blocks: int) -> Tensor:
    """The key head, numbered over batch rows, of each query block."""
    head = rows // blocks
    return head // h * hk + head % h // (h // hk)


def _batches(counts: list[int], full: list[int], budget: int) -> Int[Tensor, "B 3"]:
    found, start = [], 0
    while start < len(counts):
        most = max(budget // counts[start], 1)
        stop = start + 1
        while stop < len(counts) and stop - start < most and counts[stop] == counts[start]:
            stop += 1
        found.append((stop - start, counts[start], min(full[start:stop])))
        start = stop
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)
