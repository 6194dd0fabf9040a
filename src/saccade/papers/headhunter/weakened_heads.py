"""Weaken some heads of the weak rows of a call; all else is left as it is, to the bit."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Partial, Parts, whole
from saccade.core.state import Memory
from saccade.ops.split_mask import conjuncts
from saccade.ops.subset import put_heads, subset, take_heads
from saccade.papers.headhunter.perturbations import Kind, Pairs, Scope, pairs_of, perturbed


@dataclass(frozen=True, kw_only=True)
class WeakenedHeads(Mechanism):
    """O' = (1 - u) O + u A'V, of these heads, in rows that are weak; options as in `SoftPAG`."""

    needs: ClassVar[frozenset[str]] = frozenset({"rows.weak"})
    acts_on: ClassVar[Literal["attention", "output"]] = "output"

    heads: tuple[int, ...]
    kind: Kind = "identity"
    u: float = 1.0
    tau: float = 1.0
    scope: Scope = "image_block"

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """Raises ValueError where queries and keys are different tokens, and as `pairs_of` says."""
        if layout_q != layout_k:
            raise ValueError(
                f"queries ({layout_q.describe()}) and keys ({layout_k.describe()}) are different tokens, so no query "
                "has a key of its own; choose layers of self- or joint attention"
            )
        if self.scope != "all" and len([s for s in layout_q.of("image") if s.grid is not None]) != 1:
            raise ValueError(f"scope='{self.scope}' needs one image grid, here are {layout_q.describe()}; use 'all'")

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        assert call.rows is not None
        out, first = parts.total, call.rows.where("weak")[0]
        pairs = pairs_of(self.scope, call.layout_q, call.layout_k)
        weak = self.weakened(call, out, first, pairs)
        return whole(Partial(torch.cat((out[:first], put_heads(out[first:], self.heads, weak))), parts.lse))

    def weakened(
        self, call: AttentionCall, out: Float[Tensor, "b h n d"], first: int, pairs: Pairs
    ) -> Float[Tensor, "w c n d"]:
        """The outputs of the chosen heads in rows from `first` on."""
        own = take_heads(out[first:], self.heads)
        new = self._fully(call, first, pairs).to(own.dtype)
        before, rows, after = own.split(_sizes(pairs.queries, own.shape[2]), dim=2)
        rows = new if self.u == 1 else torch.lerp(rows, new, self.u)
        return torch.cat((before, rows, after), dim=2)

    def _fully(self, call: AttentionCall, first: int, pairs: Pairs) -> Float[Tensor, "w c r d"]:
        """At u = 1. Scores over tau are a call of their own: with other masks than padding, by what these prepared."""
        if self.kind == "temperature" and any(not isinstance(mask, KeyPadding) for mask in conjuncts(call.mask)):
            return take_heads(perturbed(call, self.kind, pairs, self.tau)[first:], self.heads)
        return perturbed(subset(call, first, self.heads), self.kind, pairs, self.tau)


def _sizes(span: slice, n: int) -> list[int]:
    return [span.start, span.stop - span.start, n - span.stop]
