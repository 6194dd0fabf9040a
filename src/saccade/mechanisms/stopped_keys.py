"""Keys and values of some text tokens without a gradient: what they hold stays, only training stops there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.state import Memory
from saccade.mechanisms.key_columns import check_words


@dataclass(frozen=True, kw_only=True, eq=False)
class StoppedKeys(Mechanism):
    """The call stays bitwise what it is.

    tokens   positions within the text
    """

    tokens: tuple[int, ...] = (0,)

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where there is no text, or no such token."""
        check_words(torch.tensor(self.tokens)[:, None, None], layout_q, layout_k)

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        start = call.layout_k.span(call.layout_k.of("text")[0].name).start
        stopped = torch.zeros(call.layout_k.n, dtype=torch.bool, device=call.k.device)
        stopped[[start + token for token in self.tokens]] = True
        return call.replace(k=_stopped(call.k, stopped), v=_stopped(call.v, stopped))


def _stopped(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where[:, None], x.detach(), x)
