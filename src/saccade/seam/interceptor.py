"""Where the calls of one site pass: the host's arguments become an `AttentionCall`, and the plan runs on it.

The run sets `plan`, layouts, rows and memories between steps; everything else here happens inside the graph.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from saccade.core.biases import DenseBias
from saccade.core.call import AttentionCall
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.partial import Parts
from saccade.core.projections import LowRankTerm
from saccade.core.rows import Rows
from saccade.core.site import Site
from saccade.core.stack import Plan, run_plan
from saccade.core.state import Memory
from saccade.ops.parts import attend_parts
from saccade.seam.block_mask import read_block_mask
from saccade.seam.checkpointing import called_by_checkpointing
from saccade.seam.host_mask import read_host_mask, spread
from saccade.seam.one_by_one import OneRow, filled, real
from saccade.seam.shadow import refuse_copy
from saccade.seam.view import HostView

Original = Callable[..., Tensor]


@dataclass(eq=False)
class SiteInterceptor:
    """One attached site.

    active     False while the host's own function gets its own arguments, as with an empty plan
    other_calls     the host's code calls attention more than once here; calls over other keys are its own business
    open       whether the settings belong to what runs: a forward, or a part of one that backward runs again
    trains     whether gradients were wanted where the forward began
    seen       whether a call passed in the running forward
    added      terms the module's projections add, by path
    row_calls  what the call of each batch row has, where the host calls attention for one after the other; else empty
    turn       the batch row whose call comes next there
    heads      the heads chosen, None for all; the others keep what the host's own attention gives them
    ahead      keys before the first query's own, where the host's map is known to be order and padding alone
    seconds    attention time so far, None unless timing was asked for
    """

    site: Site
    view: HostView
    owner: str
    other_calls: bool = False
    active: bool = False
    open: bool = True
    trains: bool = False
    seen: bool = False
    plan: Plan | None = None
    added: Mapping[str, tuple[LowRankTerm, ...]] = field(default_factory=dict)
    layout_q: Layout | None = None
    layout_k: Layout | None = None
    rows: Rows | None = None
    memories: Mapping[str, Memory] = field(default_factory=dict)
    row_calls: tuple[OneRow, ...] = ()
    turn: int = 0
    heads: Tensor | None = None
    ahead: int | None = None
    seconds: float | None = None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_copy(self.owner)

    @property
    def all_heads(self) -> int:
        """Heads of the host's attention, chosen or not."""
        return self.view.heads

    def dispatch(
        self,
        original: Original,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | BlockMask | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        attention_kwargs: dict[str, Any] | None = None,
        **where: Any,
    ) -> Tensor:
        """A call of diffusers' dispatcher: tensors (b n h d); `where` (back end, parallel group) was checked before.

        Raises ValueError for arguments it does not understand.
        """
        if attention_kwargs:
            raise ValueError(
                f"attention_kwargs={sorted(attention_kwargs)} at site '{self.site.name}' are not understood; drop them"
            )
        q, k, v = (t.transpose(1, 2) for t in (query, key, value))
        mask = attn_mask
        if mask is not None and mask.shape == (len(q), k.shape[2]):  # padding, as the dispatcher reads it
            mask = mask[:, None, None]  # type: ignore[index]
        out = self.attend(q, k, v, mask, dropout_p, is_causal, scale)
        if out is not None and self.heads is None:
            return out.transpose(1, 2)
        own = self.host(original, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, **where)
        return own if out is None or self.heads is None else own.index_copy(2, self.heads, out.transpose(1, 2))

    def sdpa(
        self,
        original: Original,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """A call of `F.scaled_dot_product_attention`: tensors (b h n d)."""
        out = self.attend(query, key, value, attn_mask, dropout_p, is_causal, scale)
        if out is not None and self.heads is None:
            return out
        own = self.host(
            original, query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return own if out is None or self.heads is None else own.index_copy(1, self.heads, out)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | BlockMask | None,
        dropout_p: float,
        is_causal: bool,
        scale: float | None,
        bias: Tensor | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor | None:
        """The planned attention (b h n d), or None for a call that is the host's own business.

        bias   what the host adds to the scores, (b|1 h|1 n m)
        sinks  a score for each head (h) that takes its share of the softmax and adds nothing to the output
        Raises ValueError for dropout, and for tokens that the layout does not have, StateError in backward
        where the forward is not known.
        """
        if not self.open and not torch.compiler.is_compiling():
            self._check_backward()
            return None  # a forward of another model that shares this module, as a control net does
        plan, layout_q, layout_k = self.plan, self.layout_q, self.layout_k
        if plan is None or layout_q is None or layout_k is None:
            return None
        own, n, takes = OneRow(self.rows, self.memories), q.shape[2], len(self.row_calls)
        if takes and n == k.shape[2] <= layout_q.n:
            own, self.turn = self.row_calls[self.turn], (self.turn + 1) % takes
            mask = real(q, layout_q.n)
            q, k, v = (filled(x, layout_q.n) for x in (q, k, v))
        if (q.shape[2], k.shape[2]) != (layout_q.n, layout_k.n):
            if self.other_calls:
                return None
            raise ValueError(
                f"site '{self.site.name}' got {q.shape[2]} queries and {k.shape[2]} keys, its layout says {layout_q.n} "
                f"and {layout_k.n} ({layout_k.describe()}); the layout does not fit this forward: choose the sites it "
                "fits by where=at(...), or describe each by a Family"
            )
        if own.rows is not None and q.shape[0] != own.rows.n:
            raise ValueError(
                f"site '{self.site.name}' got {q.shape[0]} attention rows where its batch has {own.rows.n}; which is "
                "which, its family must say (`fold`); leave the site out by where=at(...)"
            )
        if dropout_p > 0:
            raise ValueError(
                f"dropout_p={dropout_p} at site '{self.site.name}'; call eval() on the model, or set dropout to 0"
            )
        blocks, given = (mask, None) if isinstance(mask, BlockMask) else (None, mask)
        if given is not None:
            given = spread(given, self.site, (*q.shape[:3], k.shape[2]))
        if self.heads is not None:
            q, k, v, given, bias = self._chosen(q, k, v, given, bias)
        if (order := self.view.order) is not None:
            q, k, v = (order.taken(x, 2) for x in (q, k, v))
            given, bias = (None if x is None else order.taken(x, 2, 3) for x in (given, bias))
        own_mask, own_bias = read_host_mask(given, is_causal, self.site, layout_q.n, layout_k.n, self.ahead)
        if blocks is not None:
            own_mask = read_block_mask(blocks, self.site, layout_q.n, layout_k.n, self.heads, order and order.host)
        if bias is not None:
            own_bias = DenseBias(bias)
        call = AttentionCall(
            q=q, k=k, v=v, scale=q.shape[-1] ** -0.5 if scale is None else scale, layout_q=layout_q, layout_k=layout_k,
            site=self.site, rows=own.rows, host=self.view, mask=own_mask, bias=own_bias,
        )  # fmt: skip
        chosen = sinks if sinks is None or self.heads is None else sinks[self.heads]
        out = self._run(plan, call, own.memories, chosen).to(q.dtype)
        out = out if order is None else order.put_back(out)
        return out[:, :, :n] if takes else out

    def _check_backward(self) -> None:
        if torch._C._current_graph_task_id() >= 0:
            raise StateError(
                f"site '{self.site.name}' runs again in backward, and nothing says for which forward; "
                "give the function that is checkpointed its tensors by position"
            )

    def _chosen(self, q: Tensor, k: Tensor, v: Tensor, *maps: Tensor | None) -> tuple[Any, ...]:
        assert self.heads is not None
        if k.shape[1] != q.shape[1]:
            raise ValueError(f"site '{self.site.name}' shares keys among heads; choose all its heads")
        q, k, v = (t.index_select(1, self.heads) for t in (q, k, v))
        return q, k, v, *(x if x is None or x.shape[1] == 1 else x.index_select(1, self.heads) for x in maps)

    def _run(self, plan: Plan, call: AttentionCall, memories: Mapping[str, Memory], sinks: Tensor | None) -> Tensor:
        start = self._start(call.q)
        attend = attend_parts if sinks is None else partial(_with_sinks, sinks)
        total = run_plan(plan, call, memories, attend).total
        if self.trains and not torch.compiler.is_compiling() and not torch.is_grad_enabled():
            self._check_state(memories)
        return self._stop(start, total)

    def _check_state(self, memories: Mapping[str, Memory]) -> None:
        """Reentrant checkpointing runs a part without gradients first: what is put there would be cut off from them."""
        put = [x for memory in memories.values() for x in memory.coming.values() if isinstance(x, Tensor)]
        if any(x.is_floating_point() for x in put) and called_by_checkpointing():
            raise StateError(
                f"site '{self.site.name}' carries state over steps, whose gradient reentrant checkpointing would drop; "
                "checkpoint with use_reentrant=False"
            )

    def host(self, original: Original, query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The host's own attention, timed where that was asked for."""
        start = self._start(query)
        return self._stop(start, original(query, *args, **kwargs))

    def _start(self, x: Tensor) -> float:
        return 0.0 if self.seconds is None else _now(x)

    def _stop(self, start: float, out: Tensor) -> Tensor:
        if self.seconds is not None:
            self.seconds += _now(out) - start
        return out


def _with_sinks(sinks: Tensor, call: AttentionCall, want_lse: bool = False, kernel: str | None = None) -> Parts:
    parts = attend_parts(call, True, kernel)
    assert parts.lse is not None
    sink = sinks.to(parts.lse.dtype)[:, None]
    kept = torch.sigmoid(parts.lse - sink)[..., None].to(parts.outs.dtype)
    return replace(parts.gain(kept), lse=torch.logaddexp(parts.lse, sink) if want_lse else None)


def _now(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()
