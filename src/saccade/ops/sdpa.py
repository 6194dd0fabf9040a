"""Dense attention by torch's fused kernels, output and lse from the same launch; `sdpa_cuda` chooses among CUDA's.

Factored biases are folded into q and k; a mask or a dense bias is one additive tensor. The fused kernels hand out lse
without a gradient, so `_fused` adds it: with lse's gradient g, dS = P (dO V^T + g - rowsum(dO O)), which the kernel's
own backward computes once V, dO and O get one more column holding 1, g and 0.
"""

from typing import Any

import torch
from torch import Tensor

from saccade.core.blocks import Bound
from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops import sdpa_cuda
from saccade.ops.operands import Operands, has_dense, operands, padded, padded_columns, width
from saccade.ops.split_mask import additive, split_mask, token_map

NAME = "sdpa"
aten = torch.ops.aten
ROWS = {"cpu": 1 << 26, "cuda": 1 << 29}  # pairs of one additive tensor; longer maps go in slices of queries


def refuses(call: AttentionCall, *, want_lse: bool = False) -> list[str]:
    """Operands of another device or type than q, and element types the fused kernels lack."""
    reasons = [
        f"{name} is {x.dtype} on {x.device}, q is {call.q.dtype} on {call.q.device}"
        for name, x in (("k", call.k), ("v", call.v))
        if x.dtype != call.q.dtype or x.device != call.q.device
    ]
    if not call.q.dtype.is_floating_point:
        reasons.append(f"{call.q.dtype} operands")
    if call.q.shape[1] % call.k.shape[1]:
        reasons.append(f"{call.q.shape[1]} query heads are no multiple of {call.k.shape[1]} key heads")
    return reasons


def unprofitable(call: AttentionCall) -> list[str]:
    """Dense is what the others are measured against."""
    return []


def ready(call: AttentionCall) -> None:
    """Prepare the additive mask, or the token map where there is more to add in each call."""
    seen = split_mask(call)
    if seen.fixed is not None and not _sliced(call):
        _mask(call, None)


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Attention over all pairs, those not seen weighted exactly 0. Cost: 2 b h n m (w + dv) FLOPs."""
    folded = operands(call)
    if _sliced(call):
        return _in_slices(call, folded, want_lse)
    return _partial(folded, _mask(call, folded.dense), want_lse)


def flops(call: AttentionCall) -> int:
    """2 b h n m (w + dv), with w the width of the folded operands."""
    b, h, n, _ = call.q.shape
    return 2 * b * h * n * call.k.shape[2] * (width(call) + call.v.shape[-1])


def bytes(call: AttentionCall) -> int:
    """q, k, v and out once, and the additive tensor where there is one."""
    b, h, n, d = call.q.shape
    m, dv = call.v.shape[2:]
    operand = b * h * n * (width(call) + dv) + call.k.numel() // d * width(call) + call.v.numel()
    return (operand + _additive_size(call)) * call.q.element_size()


def _additive_size(call: AttentionCall) -> int:
    if call.mask is None and not has_dense(call.bias):
        return 0
    batch, heads = (1, 1) if call.mask is None else call.mask.mask_dims
    return batch * heads * call.q.shape[2] * call.k.shape[2]


def _mask(call: AttentionCall, dense: Tensor | None) -> Tensor | None:
    """What is added to the scores; made once where nothing but the fixed mask is added."""
    seen = split_mask(call)
    dtype = call.q.dtype
    if seen.fixed is not None and seen.keep is None and dense is None:
        key = ("additive", dtype)
        if torch.compiler.is_compiling() and key not in seen.fixed.memo:
            return additive(token_map(call, seen), None, None, dtype)
        bound = seen.fixed.bound
        return seen.fixed.once(key, lambda: _made(bound, dtype))
    return additive(token_map(call, seen), seen.keep, dense, dtype)


def _made(bound: Bound, dtype: torch.dtype) -> Tensor:
    added = additive(bound.token(), None, None, dtype)
    assert added is not None
    return sdpa_cuda.aligned(added)


def _sliced(call: AttentionCall) -> bool:
    if call.mask is None or torch.compiler.is_compiling():
        return False
    batch, heads = call.mask.mask_dims
    return batch * heads * call.q.shape[2] * call.k.shape[2] > _rows(call)


def _rows(call: AttentionCall) -> int:
    return ROWS.get(call.q.device.type, ROWS["cpu"])


def _in_slices(call: AttentionCall, folded: Operands, want_lse: bool) -> Partial:
    """The same with a slice of queries at a time, so that no whole map is held."""
    seen, parts = split_mask(call), []
    batch, heads = call.mask.mask_dims if call.mask is not None else (1, 1)
    for rows in torch.arange(call.q.shape[2], device=call.q.device).split(
        max(_rows(call) // (batch * heads * call.k.shape[2]), 1)
    ):
        allowed = None if seen.fixed is None else seen.fixed.bound.token(rows)
        dense = folded.dense
        if dense is not None and dense.shape[2] > 1:
            dense = dense[:, :, rows]
        piece = Operands(q=folded.q[:, :, rows], k=folded.k, v=folded.v, scale=folded.scale, dense=dense)
        parts.append(_partial(piece, additive(allowed, seen.keep, dense, call.q.dtype), want_lse))
    lse = torch.cat([p.lse for p in parts if p.lse is not None], dim=2) if want_lse else None
    return Partial(torch.cat([p.out for p in parts], dim=2), lse)


def _partial(folded: Operands, mask: Tensor | None, want_lse: bool) -> Partial:
    if _must_write_out(folded, mask, want_lse):
        return _written_out(folded, mask, want_lse)
    if folded.q.is_cuda and not want_lse:
        return Partial(sdpa_cuda.attend(folded.q, folded.k, folded.v, mask, folded.scale))
    q, k, v = _shaped(folded)
    if want_lse and _trains(folded):
        out, lse = _fused(q, k, v, mask, folded.scale)
    else:
        out, lse = _forward(q, k, v, mask, folded.scale, False)
    return Partial(out[..., : folded.v.shape[-1]], _emptied(lse, mask) if want_lse else None)


def _shaped(folded: Operands) -> tuple[Tensor, Tensor, Tensor]:
    """As the CPU's kernel takes them: one width; as CUDA's do where lse has a gradient: as many heads of k and v."""
    q, k, v = folded.q, folded.k, folded.v
    if q.is_cuda:
        return (q, sdpa_cuda.per_query_head(k, q), sdpa_cuda.per_query_head(v, q)) if _trains(folded) else (q, k, v)
    wide = max(q.shape[-1], v.shape[-1])
    if q.shape[-1] != v.shape[-1]:
        wide = padded_columns(wide, q.device)
    return _last_contiguous(padded(q, wide)), _last_contiguous(padded(k, wide)), _last_contiguous(padded(v, wide))


def _trains(folded: Operands) -> bool:
    """Whether lse has a gradient."""
    return torch.is_grad_enabled() and (folded.q.requires_grad or folded.k.requires_grad)


def _must_write_out(folded: Operands, mask: Tensor | None, want_lse: bool) -> bool:
    """Where no fused kernel gives all that is asked: the gradient of a dense bias; on CUDA, lse in some types."""
    if mask is not None and mask.requires_grad and torch.is_grad_enabled():
        return want_lse or not folded.q.is_cuda
    return folded.q.is_cuda and want_lse and _kernel(folded.q, folded.k, folded.v, mask, _trains(folded)) == "math"


def _kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, trains: bool) -> sdpa_cuda.Kernel:
    w, dv = (padded_columns(x.shape[-1], x.device) for x in (q, v))
    return sdpa_cuda.kernel_with_lse(
        q.dtype, w, dv, k.shape[2], masked=mask is not None, trains=trains, capability=sdpa_cuda.capability(q)
    )


def _written_out(folded: Operands, mask: Tensor | None, want_lse: bool) -> Partial:
    repeat = folded.q.shape[1] // folded.k.shape[1]
    k, v = (x.repeat_interleave(repeat, dim=1) for x in (folded.k, folded.v))
    scores = (folded.q * folded.scale) @ k.transpose(-1, -2)
    scores = scores if mask is None else scores + mask
    out = torch.softmax(scores, dim=-1) @ v
    fine = torch.promote_types(scores.dtype, torch.float32)
    return Partial(out, torch.logsumexp(scores.to(fine), dim=-1) if want_lse else None)


def _forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, trains: bool) -> tuple[Tensor, Tensor]:
    """(out, lse) of the device's fused kernel."""
    if q.is_cuda:
        return sdpa_cuda.attend_with_lse(q, k, v, mask, scale, _kernel(q, k, v, mask, trains))
    return aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False, attn_mask=mask, scale=scale)


def _emptied(lse: Tensor, mask: Tensor | None) -> Tensor:
    """lse -inf for queries without a key, where the kernel says 0."""
    if mask is None:
        return lse
    return lse.masked_fill((mask.detach().amax(-1) == -torch.inf).expand(lse.shape), -torch.inf)


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op(
    "saccade::sdpa",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor? mask, float scale) -> (Tensor, Tensor)",
)
def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """The fused kernel with gradients through lse as well as through out."""
    out, lse = _forward(q, k, v, mask, scale, True)
    return out.contiguous(), lse.contiguous()


@_fused.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    lse = q.new_empty(q.shape[:3], dtype=torch.promote_types(q.dtype, torch.float32))
    return q.new_empty(*q.shape[:3], v.shape[-1]), lse


@torch.library.custom_op(
    "saccade::sdpa_backward",
    mutates_args=(),
    schema="(Tensor d_out, Tensor d_lse, Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor out, Tensor lse, "
    "float scale) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    d_out: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The kernel's backward with one more column of V, dO and O: 1, lse's gradient, 0."""
    d, dv = q.shape[-1], v.shape[-1]
    beside = ((d_out, d_lse[..., None].to(out.dtype)), (v, torch.ones_like(v[..., :1])), (out, 0 * out[..., :1]))
    columns = padded_columns(dv + 1, q.device)
    d_out, v, out = (padded(torch.cat(pair, dim=-1), columns) for pair in beside)
    if q.is_cuda:
        gradients = sdpa_cuda.backward(d_out, q, k, v, mask, out, lse, scale)
    else:  # one width
        q, k = padded(q, columns), padded(k, columns)
        gradients = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            d_out, q, k, v, out, lse, 0.0, False, attn_mask=mask, scale=scale
        )
    dq, dk, dv = (x[..., :c].contiguous() for x, c in zip(gradients, (d, d, dv), strict=True))
    return dq, dk, dv


@_backward.register_fake
def _(
    d_out: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)


def _pass_back(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, mask, out, lse = ctx.saved_tensors
    return *_backward(d_out, d_lse, q, k, v, mask, out, lse, ctx.scale), None, None


_fused.register_autograd(_pass_back, setup_context=_remember)
