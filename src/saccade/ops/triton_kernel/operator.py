"""The kernels as one operator for autograd and for graphs: inductor and CUDA graphs see the launches inside.

Rows are fetched and written by number, so nothing is permuted, padded or copied; rows of the output lie (b, n, h, dv),
as hosts lay q out.
"""

from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton import knobs

from saccade.ops.pattern import Size
from saccade.ops.triton_kernel.backward import attend_keys, attend_queries
from saccade.ops.triton_kernel.forward import attend
from saccade.ops.triton_kernel.lists import KernelLists, Lists
from saccade.ops.triton_kernel.tiles import Pass, Tile, tile_for, two_parts

FARTHEST = 1 << 31  # elements between the first row of a head and its last: rows are counted in 32 bits
# shape: queries and keys of a block, batch rows and heads of the pattern, the forward's tile (0: the table's)
INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor? keep, Tensor[] lists, Tensor[] orders, Tensor[] back, "
    "int[] shape, float scale"
)


def attend_blocks(
    q: Float[Tensor, "b h n w"], k: Float[Tensor, "b hk m w"], v: Float[Tensor, "b hk m dv"],
    keep: Bool[Tensor, "b m"] | None, lists: KernelLists, back: Lists | None, scale: float, tile: Tile | None = None,
) -> tuple[Float[Tensor, "b h n dv"], Float[Tensor, "b h n"]]:  # fmt: skip
    """(out, lse) over the blocks of the lists; queries that see no key get 0 and -inf.

    back  transposed lists; they are needed where a gradient will be asked for
    tile  of the forward pass, in place of the table's
    """
    orders = [] if lists.order_q is None or lists.order_k is None else [lists.order_q, lists.order_k]
    shape = [*lists.size, *lists.heads_of, *((0, 0, 0, 0) if tile is None else astuple(tile))]
    return _attend(
        _reachable(q), _reachable(k), _reachable(v), None if keep is None else keep.to(torch.uint8).contiguous(),
        [*_flat(lists.forward), lists.bits], orders, [] if back is None else _flat(back), shape, scale,
    )  # fmt: skip


@triton_op("saccade::block_attention", mutates_args=(), schema=f"({INPUTS}) -> (Tensor, Tensor)")
def _attend(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, lists: Sequence[Tensor], orders: Sequence[Tensor],
    back: Sequence[Tensor], shape: Sequence[int], scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    b, h, n, _ = q.shape
    out = _rows_of_heads(q, v.shape[-1])
    lse = q.new_empty(b, h, n, dtype=torch.float32)
    chosen = Tile(*shape[4:]) if shape[4] else _tile("forward", q, v, shape)
    kernel: Any = attend if knobs.runtime.interpret else wrap_triton(attend)
    kernel[_grid(lists[0], shape[0] // chosen.queries, b * h)](
        q, k, v, out, lse, _or(keep, lse), *lists, *_both(orders, lse), *_strides(q, k, v, out),
        *_sizes(q, k, lists[0], h), *shape[2:4], scale, **_constants(q, v, keep, orders, shape, chosen, k.shape[2], 1),
    )  # fmt: skip
    return out, lse


@triton_op(
    "saccade::block_attention_backward",
    mutates_args=(),
    schema=f"(Tensor d_out, Tensor d_lse, Tensor out, Tensor lse, {INPUTS}) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    d_out: Tensor, d_lse: Tensor, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None,
    lists: Sequence[Tensor], orders: Sequence[Tensor], back: Sequence[Tensor], shape: Sequence[int], scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    (b, h, n, _), hk = q.shape, k.shape[1]
    dq, dk, dv = (_rows_of_heads(x, x.shape[-1]) for x in (q, k, v))
    delta = torch.empty_like(lse)
    chosen = _tile("queries", q, v, shape)
    kernel: Any = attend_queries if knobs.runtime.interpret else wrap_triton(attend_queries)
    kernel[_grid(lists[0], shape[0] // chosen.queries, b * h)](
        q, k, v, d_out, out, lse, d_lse, delta, dq, _or(keep, lse), *lists, *_both(orders, lse),
        *_strides(q, k, v, out, d_out, dq), *_sizes(q, k, lists[0], h), *shape[2:4], scale,
        **_constants(q, v, keep, orders, shape, chosen, k.shape[2], 1),
    )  # fmt: skip
    chosen = _tile("keys", q, v, shape)
    kernel = attend_keys if knobs.runtime.interpret else wrap_triton(attend_keys)
    kernel[_grid(back[0], shape[1] // chosen.keys, b * hk)](
        q, k, v, d_out, lse, delta, dk, dv, _or(keep, lse), *back, lists[-1], *_both(orders, lse),
        *_strides(q, k, v, d_out, dk, dv), *_sizes(q, k, back[0], hk), *shape[2:4], scale,
        **_constants(q, v, keep, orders, shape, chosen, n, 0),
    )  # fmt: skip
    return dq, dk, dv


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, keep, lists, orders, back, ctx.shape, ctx.scale = inputs
    ctx.lengths = len(lists), len(orders), len(back)
    ctx.save_for_backward(*output, q, k, v, keep, *lists, *orders, *back)


def _pass_back(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Any, ...]:
    out, lse, q, k, v, keep, *rest = ctx.saved_tensors
    a, b, c = ctx.lengths
    lists, orders, back = rest[:a], rest[a : a + b], rest[a + b :]
    gradients = _backward(
        _reachable(d_out), d_lse.contiguous(), out, lse, q, k, v, keep, lists, orders, back, ctx.shape, ctx.scale
    )
    return *gradients, None, [None] * a, [None] * b, [None] * c, None, None


_attend.register_autograd(_pass_back, setup_context=_remember)


def _reachable(x: Tensor) -> Tensor:
    """The tensor itself, unless its columns are apart or its rows too far apart."""
    return x if x.stride(-1) == 1 and x.shape[2] * x.stride(2) < FARTHEST else x.contiguous()


def _rows_of_heads(x: Tensor, columns: int) -> Tensor:
    """An empty (b h n columns), laid out (b n h columns)."""
    b, h, n, _ = x.shape
    return x.new_empty(b, n, h, columns).transpose(1, 2)


def _flat(lists: Lists) -> list[Tensor]:
    return [lists.order, lists.spans, lists.cols, lists.which]


def _or(x: Tensor | None, other: Tensor) -> Tensor:
    """What is passed for a pointer: any tensor where the kernel does not read it."""
    return other if x is None else x


def _both(orders: Sequence[Tensor], other: Tensor) -> Sequence[Tensor]:
    return orders or (other, other)


def _strides(*tensors: Tensor) -> list[int]:
    return [step for x in tensors for step in x.stride()[:3]]


def _sizes(q: Tensor, k: Tensor, order: Tensor, heads: int) -> tuple[int, ...]:
    return heads, q.shape[1] // k.shape[1], q.shape[2], k.shape[2], order.shape[1]


def _grid(order: Tensor, parts: int, heads: int) -> Size:
    return order.shape[1] * parts, heads


def _tile(which: Pass, q: Tensor, v: Tensor, shape: Sequence[int]) -> Tile:
    return tile_for(
        which, capability=_capability(q.device), width=q.shape[-1], width_v=v.shape[-1], dtype=q.dtype,
        size=(shape[0], shape[1]),
    )  # fmt: skip


@cache
def _capability(device: torch.device) -> Size:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def constants(
    *, width: int, width_v: int, size: Size, tile: Tile, keep: bool, order: bool, short: bool, single: bool
) -> dict[str, int | bool | str]:
    """What a kernel is compiled for.

    keep, order  whether keys are padded, whether tokens lie in another order
    short        whether the last block of what is walked is not whole
    single       products in full float32 precision
    """
    (w0, w1), (d0, d1) = two_parts(width), two_parts(width_v)
    return {
        "W": width, "D": width_v, "W0": w0, "W1": w1, "D0": d0, "D1": d1, "SIZE_Q": size[0], "SIZE_K": size[1],
        "QUERIES": tile.queries, "KEYS": tile.keys, "HAS_KEEP": keep, "HAS_ORDER": order, "SHORT": short,
        "PRECISION": "tf32x3" if single else "tf32", "STAGES": tile.stages,
    }  # fmt: skip


def _constants(
    q: Tensor, v: Tensor, keep: Tensor | None, orders: Sequence[Tensor], shape: Sequence[int], tile: Tile, walked: int,
    axis: int,
) -> dict[str, Any]:  # fmt: skip
    found = constants(
        width=q.shape[-1], width_v=v.shape[-1], size=(shape[0], shape[1]), tile=tile, keep=keep is not None,
        order=bool(orders), short=walked % shape[axis] != 0, single=q.dtype == torch.float32,
    )  # fmt: skip
    return {**found, "num_warps": tile.warps, "num_stages": tile.stages}
