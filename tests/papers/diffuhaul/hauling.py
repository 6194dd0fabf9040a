"""What tests of dragging share: a system of given mechanisms, and calls of two rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Parts
from saccade.core.rows import Rows
from saccade.core.site import Site

PAIR = Rows.of("source", "target")


@dataclass(frozen=True, eq=False)
class InGate:
    """One mechanism everywhere."""

    mechanism: Mechanism

    @property
    def name(self) -> str:
        return "in_gate"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.mechanism,)


def pair_call(grid: tuple[int, int, int] = (1, 6, 6), text: int = 0, rows: Rows = PAIR, seed: int = 0) -> AttentionCall:
    torch.manual_seed(seed)
    layout = Layout.joint(text=text, grid=grid) if text else Layout.image_only(grid)
    q, k, v = (torch.randn(rows.n, 2, layout.n, 4) for _ in range(3))
    return plain_call(q, k, v, layout=layout, rows=rows)


def outputs(call: AttentionCall, seed: int = 1) -> Parts:
    out: Tensor = torch.randn(call.q.shape, generator=torch.Generator().manual_seed(seed))
    return Parts(out[None])
