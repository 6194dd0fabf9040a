"""One attention call as a value: operands, what their tokens are, and the formulation (mask, bias, groups)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import Bias
from saccade.core.groups import KeyGroups
from saccade.core.layout import Layout, Segment
from saccade.core.mask_rows import of_rows
from saccade.core.masks import Mask
from saccade.core.rows import Rows
from saccade.core.site import Site


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionCall:
    """softmax(scale q k^T + bias, over the pairs mask allows) v.

    q (b h n d); k (b hk m d) and v (b hk m dv) with h a multiple of hk; scale multiplies q k^T.
    `host` is the site's lazy view of its host, None outside one. `groups` splits the output over groups of keys.
    """

    q: Float[Tensor, "b h n d"]
    k: Float[Tensor, "b hk m d"]
    v: Float[Tensor, "b hk m dv"]
    scale: float | Tensor
    layout_q: Layout
    layout_k: Layout
    site: Site
    rows: Rows | None = None
    host: Any = None
    mask: Mask | None = None
    bias: Bias | None = None
    groups: KeyGroups | None = None

    def replace(self, **changes: Any) -> "AttentionCall":
        """The call with some fields changed."""
        return replace(self, **changes)

    def of_rows(self, rows: Sequence[int]) -> "AttentionCall":
        """The call of some batch rows alone, without groups; what the rows are is no longer known."""
        at = torch.tensor(rows, device=self.q.device)
        q, k, v = (x.index_select(0, at) for x in (self.q, self.k, self.v))
        mask = None if self.mask is None else of_rows(self.mask, at)
        bias = None if self.bias is None else self.bias.of_rows(at)
        return self.replace(q=q, k=k, v=v, mask=mask, bias=bias, rows=None, groups=None)

    def append(self, segment: Segment, k: Float[Tensor, "b hk p d"], v: Float[Tensor, "b hk p dv"]) -> "AttentionCall":
        """The call with more keys and values at the end; masks and biases stay open on them.

        Raises ValueError where the segment and k differ in tokens.
        """
        if k.shape[2] != segment.n or v.shape[2] != segment.n:
            raise ValueError(f"segment '{segment.name}' says {segment.n} tokens, k has {k.shape[2]} and v {v.shape[2]}")
        return self.replace(
            k=torch.cat((self.k, k), dim=2), v=torch.cat((self.v, v), dim=2), layout_k=self.layout_k.append(segment)
        )


def plain_call(q: Tensor, k: Tensor, v: Tensor, *, layout: Layout | None = None, **fields: Any) -> AttentionCall:
    """A call outside any host, for tests and for using the kernels alone; `scale` defaults to d ** -0.5.

    Raises ValueError where tensors and layouts differ in tokens.
    """
    layout_q = layout or Layout.plain(q.shape[2])
    layout_k = layout or Layout.plain(k.shape[2])
    for name, layout_x, n in (("q", layout_q, q.shape[2]), ("k", layout_k, k.shape[2])):
        if layout_x.n != n:
            raise ValueError(f"{name} has {n} tokens, the layout {layout_x.n} ({layout_x.describe()})")
    site = Site(name="call", heads=q.shape[1])
    defaults: dict[str, Any] = {"scale": q.shape[-1] ** -0.5, "layout_q": layout_q, "layout_k": layout_k, "site": site}
    return AttentionCall(q=q, k=k, v=v, **{**defaults, **fields})
