"""Shift the query's heads along what they take from text and demonstration, and reweigh heads by their text mass."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Partial, Parts, whole
from saccade.core.state import Memory
from saccade.ops.key_group import Places, over_keys, put_rows, share
from saccade.papers.in_context_brush.token_roles import TokenRoles

Rows = Literal["query", "all"]
Part = tuple[Float[Tensor, "b h r d"], Float[Tensor, "b h r"]]  # A v over some keys, unnormalised, and its mass


@dataclass(frozen=True, kw_only=True)
class ContextShift(Mechanism):
    """h_s + alpha_text A_sp v_p + alpha_demo A_sc v_c, then w_h times that; options as in `InContextBrush`.

    The weights follow from the probabilities before the shift. At most a quarter as many pairs are computed again as
    the call has: those of the query with text and demonstration.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"lse"})
    acts_on: ClassVar[Literal["attention", "output"]] = "output"
    more_pairs: ClassVar[float] = 0.25

    roles: TokenRoles
    alpha_text: float = 0.3
    alpha_demo: float = 0.3
    beta: float = 0.2
    rows: Rows = "query"
    mean_one: bool = False

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError for tokens the roles do not fit."""
        self.roles.check(layout_q, layout_k)

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        at = self.roles.on(call.layout_q, call.layout_k, call.q.device)
        out = parts.total
        text = contribution(call, parts, at.query, at.text) if self.alpha_text or self.beta else None
        demo = contribution(call, parts, at.query, at.demo) if self.alpha_demo else None
        own = shifted(out[:, :, at.query], (float(self.alpha_text), text), (float(self.alpha_demo), demo))
        factor = None if text is None or not self.beta else self._factor(text[1], out)
        if factor is not None and self.rows == "query":
            own = own * factor
        out = put_rows(out, at.query, own)
        return whole(Partial(out * factor if factor is not None and self.rows == "all" else out, parts.lse))

    def _factor(self, mass: Float[Tensor, "b h r"], out: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h 1 1"]:
        weights = head_weights(mass.sum(-1), self.beta)
        if self.mean_one:
            weights = weights / weights.mean(-1, keepdim=True)
        return weights[..., None, None].to(out.dtype)


def contribution(call: AttentionCall, parts: Parts, queries: Places, keys: Places | None) -> Part | None:
    """What some keys add to the output of the queries under the call's own softmax, and their mass; None without keys.

    Masses are float32, or float64 where q is.
    """
    if keys is None:
        return None
    assert parts.lse is not None
    part = over_keys(call, queries, keys)
    mass = share(part, parts.lse[:, :, queries])
    return part.out * mass[..., None].to(part.out.dtype), mass


def shifted(own: Float[Tensor, "b h r d"], *parts: tuple[float, Part | None]) -> Float[Tensor, "b h r d"]:
    """Plus each part times its factor."""
    for alpha, part in parts:
        if alpha and part is not None:
            own = own + alpha * part[0]
    return own


def head_weights(scores: Float[Tensor, "b h"], beta: float) -> Float[Tensor, "b h"]:
    """1 + beta for the head with the highest score, 1 for that with the lowest, in between in proportion.

    Over the heads of one block and sample; all 1 where heads are equal.
    """
    low, high = scores.amin(-1, keepdim=True), scores.amax(-1, keepdim=True)
    return 1 + beta * (scores - low) / (high - low + torch.finfo(scores.dtype).eps)
