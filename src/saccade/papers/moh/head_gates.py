"""Weigh what each head gives, token by token, before the output projection.

out_h = gate_h(token) softmax(scale q_h k_h^T) v_h. Gates are made by the call's q and what entered the attention; all
heads are computed, so nothing is saved.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.state import Memory


class Gating(Protocol):
    """Makes gates: `gating(x, q).value` is (b n h) for x (b n c), None if it reads q alone, and q (b h n d)."""

    def __call__(self, x: Tensor | None, q: Tensor, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class QueryGates(Mechanism):
    """Gates by the final q alone, on any host."""

    gating: Gating

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        return _gated(parts, self.gating(None, call.q).value, call.q)


@dataclass(frozen=True, kw_only=True)
class InputGates(Mechanism):
    """Gates by what entered the attention; those of text tokens may be made by another gating.

    rest   of all tokens but text;  text   of text tokens
    """

    needs: ClassVar[frozenset[str]] = frozenset({"host.hidden"})

    rest: Gating
    text: Gating

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        x, found = call.host.hidden, []
        for segment in call.layout_q.segments:
            span = call.layout_q.span(segment.name)
            gating = self.text if segment.kind == "text" else self.rest
            found.append(gating(x[:, span], call.q[:, :, span]).value)
        return _gated(parts, torch.cat(found, dim=1), call.q)


def _gated(parts: Parts, gates: Tensor, like: Tensor) -> Parts:
    return parts.gain(gates.mT[..., None].to(like.dtype))
